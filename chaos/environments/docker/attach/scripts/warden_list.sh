# Prints a line per armed fault: hundredths of a second left, its id.
cd /warden && exec 9>lock && flock 9 || exit 1
read -r up _ < /proc/uptime; now=${up%.*}${up#*.}
for d in ./*-*/; do
  [ -f "$d/deadline" ] && [ ! -f "$d/acted" ] || continue
  read -r deadline < "$d/deadline"
  echo "$((deadline - now)) $(cat "$d/id")"
done
