# $1 key, $2 hundredths of a second from now. Prints the file `kernel`. 3: not armed here; 4: it has acted, or is about to.
cd /warden && exec 9>lock && flock 9 || exit 1
for d in ./*-"$1"; do
  [ -f "$d/deadline" ] || exit 3
  if [ -f "$d/acted" ] || [ -f "$d/acting" ] || [ -f "$d/failed" ]; then cat "$d/failed" 2>/dev/null; exit 4; fi
  read -r up _ < /proc/uptime; now=${up%.*}${up#*.}
  echo $((now + $2)) >"$d/deadline"; echo "$now" >"$d/since"
  cat "$d/kernel"
done
