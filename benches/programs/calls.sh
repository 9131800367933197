# Three calls of a model with curl and jq, as in a script by hand: each reply becomes a file if it is JSON.
# Usage: sh calls.sh ADDRESS
set -eu
for step in plan code review; do
  jq --null-input --compact-output --arg name "$step" \
    '{model: "m", stream: true, response_format: {type: "json_schema", json_schema: {name: $name}}}' |
    curl --silent --show-error --fail --data @- "http://$1/v1/chat/completions" |
    sed -n '/^data: {/s/^data: //p' |
    jq --slurp --raw-output 'map(.choices[0].delta.content // "") | add' >"$step.txt"
  jq . "$step.txt" >"$step.json"
done
