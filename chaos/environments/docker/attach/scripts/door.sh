# Process 1 of a door into a container's network: waits to be used, and tidies up after the kernel.
# Elements of our sets end by themselves; a table whose sets are all empty drops nothing any more, and is removed here (by its handle: a new
# table of the same name has another). Ends, and with it its container, when it has seen no table of ours for $1 seconds.
left=$1
while [ "$left" -gt 0 ]; do
  sleep 1
  left=$((left - 1))
  tables=$(nft list tables inet 2>/dev/null | sed -n 's/^table inet \(gameday_[0-9a-f]*\)$/\1/p')
  [ -z "$tables" ] && continue
  left=$1
  for name in $tables; do
    held=$(nft -a list table inet "$name" 2>/dev/null) || continue
    handle=${held#*# handle } handle=${handle%%[!0-9]*}
    case $held in
      *expires*) ;;
      *'comment "gameday:'*) nft delete table inet handle "$handle" 2>/dev/null ;; # any other is not ours
    esac
  done
done
