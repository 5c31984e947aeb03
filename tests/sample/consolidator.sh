#!/bin/sh
# A consolidator for the tour: reads entries as JSON Lines and appends what it understands of them to
# one Markdown file. A real one asks a model; this one cuts out strings.
set -eu
memory=$1
mkdir -p "$(dirname "$memory")"

# A pod that learns something while the consolidation is under way: its entry is not part of this run.
consolidate stage --segment late-arrival --range 0..1 >/dev/null <<'JSON'
{"discussions": [{"topic": "timing", "points": ["This was staged while a consolidation was running."]}]}
JSON

strings() { printf '%s\n' "$line" | grep -o "\"$1\":\"[^\"]*\"" | sed 's/^"[^"]*":"//; s/"$//'; }
while IFS= read -r line; do
  {
    strings segment_id | sed 's/^/## /'
    strings chosen | sed 's/^/- decided: /'
    strings topic | sed 's/^/- discussed: /'
    strings action | sed 's/^/- tried: /'
    strings intent | sed 's/^/- asked for: /'
  } >>"$memory" || exit 1
done
