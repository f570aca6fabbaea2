# Process 1 of the warden: the dead-man's switch of faults that the kernel does not expire by itself. POSIX sh, curl and flock.
#
# Below /warden there is one directory per fault, `<when armed>-<hash of its id>`: `id`, `deadline` (hundredths of a second of the machine's
# uptime, which no clock setting moves), `since` (uptime when that was written), `steps` (one a line: verb, container, argument) and files
# that they name. They are written, and the deadline is moved, by short commands run in this container under the lock. When a deadline has
# passed the steps are done, all of them, again and again until each has been seen to hold; a fault that is done leaves `acted`. When
# nothing is armed any more this container removes itself.
# It survives a restart of the engine (restart policy "always"), and of the machine: an uptime that has gone back counts as a passed deadline.
cd /warden || exit 1
api() { curl -sS --max-time "$1" --unix-socket /run/engine.sock -H 'Content-Type: application/json' -X "$2" "http://engine$3" ${4:+-d "$4"} 2>&1; }
uptime() { read -r up _ < /proc/uptime; now=${up%.*}${up#*.}; }
look() { seen=$(api 5 GET "/containers/$1/json"); }
has() { case $seen in *"$1"*) return 0 ;; esac; return 1; }
gone() { has '"message":"No such container'; }

# Where there is nothing to do the engine says so, and a look is what counts.
thaw() { api 10 POST "/containers/$1/unpause" >said; look "$1"; gone || has '"Paused":false'; }
# What still runs may have been told to stop a moment ago, and end later: it is watched for $2 seconds.
start() {
  look "$1"
  if gone; then return 0; fi
  if has '"Running":false'; then
    api 20 POST "/containers/$1/start" >said
    look "$1"
    has '"Running":true'
    return
  fi
  uptime
  [ -f "$fault/watch.$1" ] || echo $((now + $2 * 100)) >"$fault/watch.$1"
  read -r until <"$fault/watch.$1"
  echo "still runs; watched for a while" >said
  has '"Running":true' && [ "$now" -ge "$until" ]
}
exec_in() {
  made=$(api 10 POST "/containers/$1/exec" "@$2")
  case $made in '{"Id":"'*) ;; *) echo "$made" >said; return 1 ;; esac
  id=${made#*:\"}; id=${id%%\"*}
  api 60 POST "/exec/$id/start" '{"Detach":false,"Tty":false}' >said
  ended=$(api 10 GET "/exec/$id/json")
  case $ended in *'"ExitCode":0,'*|*'"ExitCode":0}'*) return 0 ;; esac
  return 1
}
shell() {
  look "$1"
  if gone; then return 0; fi
  has '"Running":true' && { exec_in "$1" "$fault/$2" || exec_in "$1" "$fault/$2.plain"; }
}

act() {
  failed=
  while read -r verb container argument; do
    : >said
    "$verb" "$container" "$argument" || failed="$failed $verb $container: $(tail -c 300 said | tr -cd '[:print:]');"
  done < "$fault/steps"
  exec 9>lock; flock 9
  rm -f "$fault/acting"
  if [ -z "$failed" ]; then : >"$fault/acted"; echo "$fault: done"; else echo "$failed" >"$fault/failed"; echo "$fault: failed:$failed"; trouble=1; fi
  exec 9>&-
}

leave() {
  : >leaving
  exec 9>&-
  while api 10 DELETE "/containers/$GAMEDAY_SELF?force=true" >/dev/null; do sleep 1; done
  exit 1 # the engine does not answer; the restart policy brings this back, with a socket that is new
}

rm -rf leaving said tmp.* *-*/acting
silent=0
while :; do
  exec 9>lock; flock 9
  uptime
  armed= due= trouble=
  for fault in *-*/; do
    fault=${fault%/}
    [ -f "$fault/deadline" ] && [ ! -f "$fault/acted" ] || continue
    armed=1
    read -r deadline < "$fault/deadline"; read -r since < "$fault/since"
    if [ "$now" -ge "$deadline" ] || [ "$now" -lt "$since" ]; then : >"$fault/acting"; due="$fault $due"; fi
  done
  if [ -z "$armed" ]; then
    if [ -f ever ] || [ "$now" -gt $((${born:=$now} + 6000)) ]; then leave; fi # or: whoever started this died before it armed anything
  fi
  exec 9>&-
  for fault in $due; do act; done # newest first
  if [ -n "$trouble" ]; then
    case $(api 5 GET /_ping) in OK) silent=0 ;; *) silent=$((silent + 1)) ;; esac
    [ "$silent" -ge 3 ] && exit 1 # the restart policy brings this back, with the engine's new socket
    sleep 0.3
  fi
  sleep 0.1
done
