#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Common tools for perf's events, on events of uprobe_events: perf stat, record and
# script, on a process, all of its threads, and all CPUs; and bpftrace, which refuses
# the events, like any other uprobe event, because they are not of its kind.

. "$(dirname "$0")/tap.sh"

pid='' vaddr='' answer=''

clean_up() {
	kill -KILL "$pid"
	echo > uprobe_events
	rm -rf "$TMP"
} 2> /dev/null

ask() { echo "$1" >&"$to"; read -r -t 60 answer <&"$from"; }

# Runs for longer than a tick. perf stat does not print the count of a thread, but that
# it was not counted, if the thread has run for less than its clock's resolution, which
# may be a tick.
pass_time() {
	local began=${EPOCHREALTIME/./}

	while ((${EPOCHREALTIME/./} < began + 20000)); do :; done
}

# Runs perf with an event in the background, and calls the function while it counts.
while_it_counts() { # call command argument...
	while_it_counts_and "the probe is in place" cc "$@"
}

while_it_counts_and() { # what byte call command argument...
	local what=$1 byte=$2 call=$3 command=$4 perf said

	shift 4
	perf "$command" --control "fifo:$TMP/control,$TMP/said" -D -1 "$@" > "$TMP/out" 2>&1 &
	perf=$!
	exec {control}> "$TMP/control" {acknowledged}< "$TMP/said"
	echo enable >&"$control"
	read -r -t 60 said <&"$acknowledged"
	ask text
	equal "perf $command: $what" "${said:0:3} ${answer:0:2}" "ack $byte"
	ask "$call"
	pass_time
	kill -INT $perf
	wait $perf
	exec {control}>&- {acknowledged}<&-
	ask text
	equal "perf $command: the text is restored" "$answer" "$text"
}

# Prints perf stat's count of an event.
counted() { awk -F, -v event="$1" '$3 == event { print $1 }' "$TMP/stat"; }

echo "TAP version 13"
[ "$(id -u)" = 0 ] || skip_all "needs root"
enter_tracefs
have perf || skip_all "no perf"

trap clean_up EXIT
echo > uprobe_events
mkfifo "$TMP/control" "$TMP/said"
start_program "$HERE/samples_target"
pid=$started
read -r -t 60 vaddr size <&"$from"
ask text
text=$answer
end=$(printf '%#x' $((vaddr + size)))

echo "p:uprobes/next $pid:$vaddr number=%di:u64 comm=\$comm" >> uprobe_events &&
	echo "r:uprobes/next_of $pid:$vaddr-$end is=\$retval:u64" >> uprobe_events
equal "events are made" "$(wc -l < uprobe_events)" 2

# So many calls take many ticks.
calls=20000
while_it_counts "call $calls" stat -x, -o "$TMP/stat" -e uprobes:next -p "$pid"
equal "perf stat: of the process" "$(counted uprobes:next)" $calls
while_it_counts "call $((calls / 4)) 4" stat -x, -o "$TMP/stat" \
	-e uprobes:next,uprobes:next_of -p "$pid"
equal "perf stat: of threads" "$(counted uprobes:next)" $calls
equal "perf stat: of their returns" "$(counted uprobes:next_of)" $calls
while_it_counts "call $calls" stat -x, -o "$TMP/stat" -e uprobes:next -a
equal "perf stat: of all processors" "$(counted uprobes:next)" $calls
# The count of another process does not disturb the probed one.
while_it_counts_and "there is no probe" "${text:0:2}" \
	"call $calls" stat -x, -o "$TMP/stat" -e uprobes:next -p $$
equal "perf stat: of another process" "$(counted uprobes:next)" 0

while_it_counts "call 50" record -g -e uprobes:next -e uprobes:next_of -p "$pid" \
	-o "$TMP/perf.data"
perf script -i "$TMP/perf.data" -F comm,event,trace > "$TMP/script" 2> "$TMP/errors"
equal "perf script: hits" "$(grep -c ' uprobes:next: ' "$TMP/script")" 50
equal "perf script: returns" "$(grep -c ' uprobes:next_of: ' "$TMP/script")" 50
equal "perf script: arguments" \
	"$(grep -o 'number=[0-9]* comm=.*' "$TMP/script" | sed -n '1p;50p')" \
	"$(printf 'number=%s comm="samples_target"\n' 0 49)"
equal "perf script: return values" "$(grep -o 'is=[0-9]*' "$TMP/script" | sed -n '1p;50p')" \
	"$(printf 'is=%s\n' 1 50)"
perf script -i "$TMP/perf.data" -F event,ip,sym > "$TMP/script" 2> "$TMP/errors"
equal "perf script: callers" "$(awk -v RS= '/uprobes:next:/ && /next_of/ { n++ }
	END { print n + 0 }' "$TMP/script")" 50

if have bpftrace; then
	timeout 60 bpftrace -e 'tracepoint:uprobes:next { exit(); }' > "$TMP/out" 2>&1
	status=$?
	equal "bpftrace: refused" "$((status != 0 && status != 124))" 1
	ask text
	equal "bpftrace: the text is the program's" "$answer" "$text"
else
	skip "bpftrace" "not installed"
fi

equal "hits are counted" \
	"$(awk '$2 == "next" { print $3, $4 }' uprobe_profile)" "$((3 * calls + 50)) 0"
echo > uprobe_events
equal "events can be removed" "$(cat uprobe_events)" ""
ask end
wait "$pid"
equal "the process has continued" $? 0
finish
