#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Unwinders on a program with probed calls and returns: the C library, gdb, and perf in its two
# ways must find all callers.

. "$(dirname "$0")/tap.sh"

program=

clean_up() {
	echo 0 > events/unwinders/enable
	echo > uprobe_events
	kill "$program"
	rm -rf "$TMP"
} 2> /dev/null

# Sends the program a line, and reads the first line of its output into $answer.
tell() { echo "$1" >&"$to"; read -r -t 60 answer <&"$from"; }
result() { read -r -t 60 answer <&"$from" && [ "$answer" = "result 16" ]; }

# Whether the innermost function and all its callers are in a file.
callers_in() { # file
	local function
	for function in unwound_inner unwound_middle unwound_outer main; do
		grep -q "\\b$function\\b" "$1" || return 1
	done
}

# Prints the percentage of perf's samples of the program that have all callers.
complete_samples() { # perf script's output
	awk -v RS= '
		/unwound_inner/ { samples++ }
		/unwound_inner/ && /unwound_middle/ && /unwound_outer/ && /main/ { complete++ }
		END { print samples ? int(100 * complete / samples) : 0 }' "$1"
}

echo "TAP version 13"
[ "$(id -u)" = 0 ] || skip_all "needs root"
enter_tracefs

trap clean_up EXIT
echo > uprobe_events
start_program "$HERE/unwound"
program=$started
read -r -t 60 outer middle inner <&"$from"

tell walk
without=$answer
result
check "program: result without probes" $?

for function in outer middle inner; do
	at=$program:${!function}
	echo "p:unwinders/${function}_call $at" >> uprobe_events &&
		echo "r:unwinders/${function}_return $at" >> uprobe_events || break
done
[ "$(wc -l < uprobe_events)" = 6 ] && echo 1 > events/unwinders/enable
check "probes placed" $?

tell walk
[ "$answer" = "$without" ] && [[ $answer == *unwound_inner*unwound_middle*unwound_outer*main* ]]
check "C library: the same callers" $?
result
check "C library: result" $?

if have gdb; then
	tell wait
	gdb -nx -batch -p "$program" -ex bt -ex detach > "$TMP/gdb" 2>&1
	callers_in "$TMP/gdb"
	check "gdb: backtrace" $?
	echo on >&"$to"
	result
	check "gdb: result" $?
	tell wait
	# gdb's own breakpoint is at the address of the return probe's.
	gdb -nx -batch -p "$program" -ex 'frame function unwound_inner' \
		-ex "shell touch $TMP/goes_on" -ex finish -ex detach > "$TMP/gdb" 2>&1 &
	gdb=$!
	for _ in $(seq 300); do
		[ -e "$TMP/goes_on" ] && break
		sleep 0.1
	done
	sleep 0.5
	echo on >&"$to"
	result
	check "gdb: result after finish" $?
	wait $gdb
	grep -q 'Value returned is .* = 4$' "$TMP/gdb"
	check "gdb: finish" $?
else
	skip "gdb" "not installed"
fi

if have perf; then
	for way in fp dwarf; do
		rm -f "$TMP/records"
		# shellcheck disable=SC2016  # $0 is of that shell.
		perf record -o "$TMP/perf.data" -e cpu-clock -F 200 --call-graph $way \
			-p "$program" -- sh -c 'touch "$0" && sleep 3' "$TMP/records" \
			> /dev/null 2>&1 &
		perf=$!
		# perf may take seconds to begin recording.
		for _ in $(seq 600); do
			[ -e "$TMP/records" ] && break
			sleep 0.1
		done
		tell spin
		[ "$answer" = "result 16" ]
		check "perf, $way: result" $?
		wait $perf
		perf script -i "$TMP/perf.data" > "$TMP/script" 2> /dev/null
		[ "$(complete_samples "$TMP/script")" -ge 95 ]
		check "perf, $way: callers" $?
	done
else
	skip "perf" "not installed"
fi

for function in outer middle inner; do
	awk -v call="${function}_call" -v ret="${function}_return" '
		$2 == call { calls = $3 } $2 == ret { returns = $3 }
		END { exit !(calls > 0 && calls == returns) }' uprobe_profile
	check "$function: as many returns as calls" $?
done
finish
