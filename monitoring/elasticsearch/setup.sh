#!/bin/bash
# Prepares Elasticsearch for our logs: how long they are kept, how they are indexed, who may write and read. May be repeated.
# Passwords go to curl by standard input: the list of processes shows arguments.
set -euo pipefail

ELASTICSEARCH="${ELASTICSEARCH:-http://elasticsearch:9200}"
SECRETS="${SECRETS:-/run/secrets}"
HERE="$(dirname "$0")"

secret() { cat "$SECRETS/$1"; }

# call METHOD PATH: sends standard input as JSON.
call() {
    local body
    body="$(cat)"
    curl --silent --show-error --fail-with-body --output /dev/null --max-time 30 --retry 10 --retry-connrefused --retry-delay 3 \
        --config <(printf 'user = "elastic:%s"\n' "$(secret elastic_password)") \
        --request "$1" --header 'Content-Type: application/json' --data-binary @- "$ELASTICSEARCH$2" <<< "$body"
    echo "$1 $2: done"
}

password() { printf '{"password": "%s"}' "$(secret "$1")"; }

password kibana_password | call POST /_security/user/kibana_system/_password
call PUT /_ilm/policy/tradebot-logs < "$HERE/life-cycle.json"
call PUT /_index_template/tradebot-logs < "$HERE/index-template.json"
call PUT /_security/role/logstash_tradebot < "$HERE/writer-role.json"
printf '{"password": "%s", "roles": ["logstash_tradebot"]}' "$(secret logstash_password)" | call PUT /_security/user/logstash_tradebot
