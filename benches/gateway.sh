#!/usr/bin/env bash
# What a request costs in the gateway, beside the nginx and the HAProxy that are installed.
#
#   benches/gateway.sh [-r ROUNDS] [-s SECONDS] [MODE]...
#
#   h1            HTTP/1.1, 64 connections: processor time a request
#   h2            HTTP/2 without TLS to the proxy, 16 connections of 32 streams, HTTP/1.1 behind it
#   body          bodies of 256 MiB, 4 at once: processor time a GiB
#   tail          the slowest of a hundred, at 70 % of what the slowest proxy can do
#   idle          memory for 10 000 connections that say nothing, or as many as may be open
#   workers       what a second worker costs the first
#   instructions  in user space, a request, by callgrind: of the gateway alone
#
# All are asked in turn, round by round, each on core 0 with one worker; the three backends (one nginx) and the load are
# on core 1. A figure is the median of the rounds, with the least and the most; the last column is its ratio to nginx.
# Only loopback is used. Needs nginx for the backends, wrk, h2load and curl; haproxy and valgrind where wanted.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=5 seconds=5
while getopts r:s: option; do
    case $option in
    r) rounds=$OPTARG ;;
    s) seconds=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
modes=("$@")
[ $# -gt 0 ] || modes=(h1 h2 body tail idle workers instructions)
for tool in nginx wrk h2load curl taskset; do
    command -v "$tool" >/dev/null || { echo "gateway.sh: $tool is not installed" >&2; exit 2; }
done

cargo build --quiet --release --example gateway
gateway=${CARGO_TARGET_DIR:-target}/release/examples/gateway
work=$(mktemp -d)
chmod 755 "$work"
started=()
trap 'tail -3 "$work/log" >&2; kill "${started[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
# HAProxy reckons with two files a connection.
most=$((($(ulimit -n) - 200) / 2))
idle=$((most - 200 < 10000 ? most - 200 : 10000))

backends=(28001 28002 28003)
nginx_conf() { # NAME SERVERS
    cat >"$work/$1.conf" <<EOF
worker_processes 1; daemon off; pid $work/$1.pid; error_log $work/$1.err;
events { worker_connections 20000; }
http { access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; $2 }
EOF
}
nginx_conf backend "server {
    listen 127.0.0.1:${backends[0]}; listen 127.0.0.1:${backends[1]}; listen 127.0.0.1:${backends[2]};
    location = /big { alias $work/big; } location / { return 200 \"Hello from Backend \$server_port\\n\"; } }"
nginx_conf nginx "upstream pool { $(printf 'server 127.0.0.1:%s; ' "${backends[@]}") keepalive 256; keepalive_requests 1000000000; }
    server { listen 127.0.0.1:28101 backlog=20000; listen 127.0.0.1:28201 http2; proxy_max_temp_file_size 0; location / {
    proxy_pass http://pool; proxy_http_version 1.1; proxy_set_header Connection \"\";
    proxy_set_header X-Forwarded-For \$remote_addr; proxy_set_header X-Forwarded-Proto \$scheme;
    proxy_set_header X-Forwarded-Host \$host; } }"
cat >"$work/haproxy.cfg" <<EOF
global
    nbthread 1
    maxconn $most
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 60s
    timeout http-keep-alive 3600s
    option forwardfor
    http-reuse always
frontend in
    bind 127.0.0.1:28102 backlog 20000
    bind 127.0.0.1:28202 proto h2
    default_backend pool
backend pool
$(for port in "${backends[@]}"; do echo "    server s$port 127.0.0.1:$port check inter 5s"; done)
EOF

# Everything that is started is stopped at the end.
run() { "$@" >/dev/null 2>>"$work/log" & started+=($!); }
run taskset -c 1 nginx -c "$work/backend.conf"
names=(nginx) h1=(28101) h2=(28201)
run taskset -c 0 nginx -c "$work/nginx.conf"
pids=($!)
if command -v haproxy >/dev/null; then
    run taskset -c 0 haproxy -db -f "$work/haproxy.cfg"
    names+=(haproxy) h1+=(28102) h2+=(28202) pids+=($!)
fi
gateway_on() { run taskset -c "$1" "$gateway" --listen "127.0.0.1:$2" --admin off --log off --workers "$3" \
    $(printf -- '--backend http://127.0.0.1:%s ' "${backends[@]}"); }
gateway_on 0 28103 1
names+=(gateway) h1+=(28103) h2+=(28103) pids+=($!)
for port in "${h1[@]}"; do
    curl --silent --fail --output /dev/null --retry 40 --retry-delay 1 --retry-all-errors "http://127.0.0.1:$port/"
done

family() { echo "$1"; pgrep -P "$1" || true; }
# Processor time of a process and its children, in milliseconds.
spent() { for pid in $(family "$1"); do awk '{print $14 + $15}' "/proc/$pid/stat"; done | awk -v hz="$(getconf CLK_TCK)" '{s += $1} END {print s * 1000 / hz}'; }
memory() { for pid in $(family "$1"); do awk '/^Pss:/ {print $2}' "/proc/$pid/smaps_rollup"; done | awk '{s += $1} END {print s}'; }
quotient() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.4f", a / b}'; }

# Reads lines "name value"; prints medians.
table() { # TITLE UNIT
    printf '\n%s, %s: median of %s (least to most), ratio to nginx\n' "$1" "$2" "$rounds"
    sort -k1,1 -k2,2g | awk '
        {v[$1, ++n[$1]] = $2}
        END {
            split("nginx haproxy gateway", order)
            for (i = 1; i <= 3; i++) {
                p = order[i]; if (!n[p]) continue
                m = v[p, int((n[p] + 1) / 2)]; if (p == "nginx") base = m
                printf "  %-8s %10.2f (%.2f to %.2f) %6.2f\n", p, m, v[p, 1], v[p, n[p]], m / base
            }
        }'
}
each() { # FUNCTION: called with name, place; prints a value
    for _ in $(seq "$rounds"); do for at in "${!names[@]}"; do echo "${names[at]} $("$1" "$at")"; done; done
}

wrk_requests() { taskset -c 1 wrk -t1 -c64 -d"${2}s" "http://127.0.0.1:$1/" | awk '/requests in/ {print $1}'; }
measure_h1() {
    local before requests
    wrk_requests "${h1[$1]}" 1 >/dev/null
    before=$(spent "${pids[$1]}")
    requests=$(wrk_requests "${h1[$1]}" "$seconds")
    quotient "$(awk -v a="$(spent "${pids[$1]}")" -v b="$before" 'BEGIN {print (a - b) * 1000}')" "$requests"
}
measure_h2() {
    local before requests=$((seconds * 20000))
    before=$(spent "${pids[$1]}")
    taskset -c 1 h2load -t1 -c16 -m32 -n "$requests" "http://127.0.0.1:${h2[$1]}/" | grep -q " $requests succeeded" || { echo nan; return; }
    quotient "$(awk -v a="$(spent "${pids[$1]}")" -v b="$before" 'BEGIN {print (a - b) * 1000}')" "$requests"
}
measure_body() {
    local before loads=()
    before=$(spent "${pids[$1]}")
    for _ in 1 2 3 4; do taskset -c 1 curl --silent --fail --output /dev/null "http://127.0.0.1:${h1[$1]}/big" & loads+=($!); done
    wait "${loads[@]}"
    awk -v a="$(spent "${pids[$1]}")" -v b="$before" 'BEGIN {print a - b}'
}
measure_tail() {
    rm -f "$work/times"
    taskset -c 1 h2load --h1 -t1 -c64 --rps "$each_second" -D "$seconds" --log-file "$work/times" "http://127.0.0.1:${h1[$1]}/" >/dev/null
    sort -n -k3,3 "$work/times" | awk '{t[NR] = $3} END {print t[int(NR * .99)] / 1000}'
}
measure_idle() {
    local before held
    before=$(memory "${pids[$1]}")
    # One request on each, and then silence.
    taskset -c 1 h2load --h1 -t1 -c$idle -n$idle "http://127.0.0.1:${h1[$1]}/" >/dev/null
    taskset -c 1 h2load --h1 -t1 -c$idle --rps .01 -D 14 "http://127.0.0.1:${h1[$1]}/" >/dev/null & held=$!
    # Long enough for whoever gives something back after a while.
    sleep 12
    awk -v a="$(memory "${pids[$1]}")" -v b="$before" 'BEGIN {print a / 1024}'
    wait "$held" || true
}

for mode in "${modes[@]}"; do
    case $mode in
    h1) each measure_h1 | table "HTTP/1.1" "µs of processor a request" ;;
    h2) each measure_h2 | table "HTTP/2 in, HTTP/1.1 out" "µs of processor a request" ;;
    body)
        head -c 268435456 /dev/zero >"$work/big"
        each measure_body | table "Bodies of 256 MiB" "ms of processor a GiB"
        ;;
    tail)
        slowest=$(for port in "${h1[@]}"; do wrk_requests "$port" 2; done | sort -n | head -1)
        each_second=$((slowest / 2 * 7 / 10 / 64))
        each measure_tail | table "At $((each_second * 64)) requests a second" "ms for 99 of 100"
        ;;
    idle) each measure_idle | table "$idle idle connections" "MiB" ;;
    workers)
        # The load and the backends want cores as well, so on few cores the requests a second say nothing. What two workers
        # get in each other's way, they spend: two that spend for a request what one does do twice as much on two cores.
        for workers in 1 2; do gateway_on 0,1 "2813$workers" "$workers" && spenders[workers]=$!; done
        sleep 1
        printf '\nµs of processor a request with one worker, with two, and what that makes of a second core\n'
        for _ in $(seq "$rounds"); do
            for workers in 1 2; do
                before=$(spent "${spenders[workers]}")
                requests=$(taskset -c 0,1 wrk -t1 -c64 -d"${seconds}s" "http://127.0.0.1:2813$workers/" | awk '/requests in/ {print $1}')
                each[workers]=$(awk -v a="$(spent "${spenders[workers]}")" -v b="$before" -v n="$requests" 'BEGIN {printf "%.2f", (a - b) * 1000 / n}')
            done
            printf '  %8.2f %8.2f %6.2f\n' "${each[1]}" "${each[2]}" "$(awk -v a="${each[1]}" -v b="${each[2]}" 'BEGIN {print 2 * a / b}')"
        done
        ;;
    instructions)
        command -v valgrind >/dev/null || { echo "valgrind is not installed: no instructions"; continue; }
        run valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file="$work/callgrind" "$gateway" \
            --listen 127.0.0.1:28121 --admin off --log off --workers 1 $(printf -- '--backend http://127.0.0.1:%s ' "${backends[@]}")
        measured=$!
        curl --silent --fail --output /dev/null --retry 40 --retry-delay 1 --retry-all-errors http://127.0.0.1:28121/
        wrk_requests 28121 5 >/dev/null
        callgrind_control -i on "$measured" >/dev/null 2>&1
        h2load --h1 -c64 -t1 -n 4000 http://127.0.0.1:28121/ | grep -q " 4000 succeeded"
        callgrind_control -i off "$measured" >/dev/null 2>&1
        kill "$measured"; wait "$measured" 2>/dev/null || true
        printf '\nInstructions in user space, a request, of 4000: %s\n' \
            "$(awk '/^totals:/ {print int($2 / 4000)}' "$work"/callgrind* | tail -1)"
        ;;
    *) echo "gateway.sh: no mode $mode" >&2; exit 2 ;;
    esac
done
