#!/bin/sh
# A picture of a report for the README: docs/screenshot.sh REPORT.html OUT.png [WIDTHxHEIGHT]
# Needs Chromium. Opens the file with no way out to any network.
set -eu
if [ $# -lt 2 ]; then
    echo "usage: $0 REPORT.html OUT.png [WIDTHxHEIGHT]" >&2
    exit 2
fi
report=$(realpath "$1")
out=$(realpath "$(dirname "$2")")/$(basename "$2")
size=$(echo "${3:-1120x1210}" | tr x ,)
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
    echo "$0: no chromium on PATH; apt-get install chromium" >&2
    exit 1
}
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
"$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update \
    --disable-sync --host-resolver-rules='MAP * ~NOTFOUND' --hide-scrollbars --user-data-dir="$profile" \
    --screenshot="$out" --window-size="$size" "file://$report" 2>/dev/null
test -s "$out" || { echo "$0: chromium wrote no picture" >&2; exit 1; }
echo "$out"
