#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The modules of samples/uprobes, each on a real process. The tests compare a module's
# counts, in the kernel log, with the process's own counts, and the injected faults with
# the faults that the process has seen.

. "$(dirname "$0")/tap.sh"

TARGET=$HERE/samples_target
COUNTERS="uprobe_count rust_uprobe_count"
FAULT=uprobe_fault
pid='' vaddr='' size='' text='' answer='' said='' follower=''

clean_up() {
	kill -KILL "$pid" "$follower"
	for module in $COUNTERS $FAULT; do
		rmmod "$module"
	done
	rm -rf "$TMP"
} 2> /dev/null

file_of() { echo "$KMODDIR/samples/uprobes/$1.ko"; }

# Reads a module's messages, up to its last one, into $said, without the module's name.
# Programs take long to start here, so one follows the log all the time.
listen() { # [module]
	local line prefix="${1:-$module}: "

	said=
	while read -r -t 60 line <&"$log"; do
		while [[ $line == \[* ]]; do line=${line#*] }; done
		[[ $line == "$prefix"* ]] || continue
		said+=${said:+$'\n'}${line#"$prefix"}
		[[ $line != *" misses" && $line != *" faults" ]] || return
	done
}

# Starts the target, with pipes to and from it.
start() {
	"$TARGET" < "$TMP/to" > "$TMP/from" &
	pid=$!
	exec {to}> "$TMP/to" {from}< "$TMP/from"
	hear
	read -r vaddr size <<< "$answer"
	ask text
	text=$answer
	[ -n "$text" ] || { echo "# the target does not start"; exit 1; }
}

tell() { echo "$1" >&"$to"; }
hear() { answer=; read -r -t 60 answer <&"$from"; }
ask() { tell "$1"; hear; }

# The target prints nothing unasked.
pause() { read -r -t 0.05 _ <&"$from"; }

# Ends the target.
stop() {
	tell end
	wait "$pid"
	exec {to}>&- {from}<&-
}

load() { # [parameter...]
	insmod "$(file_of "$module")" pid="$pid" vaddr="$vaddr" "$@" ||
		{ not_ok "$module: load"; exit 1; }
}

# The module logs its counts, and leaves nothing behind.
unload_and_expect() { # what log
	rmmod "$module"
	equal "$1: unload" $? 0
	listen
	equal "$1: log" "$said" "$2"
	ask text
	equal "$1: text is restored" "$answer" "$text"
	equal "$1: no page of its own is left" "$(own_memory)" 0
}

# Prints how many kilobytes of the text are the process's own, not the file's.
own_memory() {
	local lines line is_text=0

	mapfile -t lines < "/proc/$pid/smaps"
	for line in "${lines[@]}"; do
		if [[ $line =~ ^([0-9a-f]+)-([0-9a-f]+)\  ]]; then
			is_text=$((vaddr >= 16#${BASH_REMATCH[1]} && vaddr < 16#${BASH_REMATCH[2]}))
		elif [[ $is_text = 1 && $line =~ ^Anonymous:\ *([0-9]+) ]]; then
			echo "${BASH_REMATCH[1]}"
		fi
	done
}

counts() { # what call hits returns [parameter...]
	local what=$1 call=$2 hits=$3 returns=$4 times threads

	shift 4
	read -r _ times threads <<< "$call"
	start
	load "$@"
	ask text
	equal "$what: there is a breakpoint" "${answer:0:2}" cc
	ask "$call"
	# The process counts by itself.
	equal "$what: the function is executed" "${answer% * *}" $((times * ${threads:-1}))
	equal "$what: the results are right" "${answer#* }" "0 0"
	unload_and_expect "$what" "$hits hits, $returns returns, 0 misses"
	ask "call 10"
	equal "$what: the process continues" "$answer" "10 0 0"
	stop
}

shows() {
	start
	load show=2
	ask "call 5"
	rmmod "$module"
	listen
	equal "reports of hits" "$said" "$(
		echo "hit 1: process $pid, thread $pid, first argument 0x0"
		echo "hit 2: process $pid, thread $pid, first argument 0x1"
		echo "5 hits, 0 returns, 0 misses"
	)"
	stop
}

# A handler unregisters the probe.
limits() {
	local restored=0

	start
	load limit=10 size="$size"
	ask "call 100"
	equal "limit: the function is executed" "$answer" "100 0 0"
	for _ in $(seq 100); do
		ask text
		[ "$answer" != "$text" ] || { restored=1; break; }
		pause
	done
	equal "limit: text is restored before the module goes" $restored 1
	rmmod "$module"
	listen
	# The tenth call returns after the probe is unregistered.
	equal "limit: log" "$said" "10 hits, 9 returns, 0 misses"
	stop
}

# The module is loaded and unloaded while threads execute the function. The second
# time, handlers unregister the probe as well.
changes() {
	local times log_is

	start
	tell "run 2"
	for times in first second; do
		if [ $times = first ]; then load; else load limit=3 size="$size"; fi
		pause
		rmmod "$module"
		listen
		[[ $said =~ ^[1-9][0-9]*\ hits,\ [0-9]+\ returns,\ 0\ misses$ ]]
		log_is=$?
		equal "unloaded from running threads, $times time: log" "$log_is $said" "0 $said"
	done
	ask halt
	equal "unloaded from running threads: each call is executed" "$answer" "0 0 0"
	ask text
	equal "unloaded from running threads: text is restored" "$answer" "$text"
	stop
}

exits_first() {
	start
	load size="$size"
	ask "call 7"
	stop
	rmmod "$module"
	equal "unload after the process's end" $? 0
	listen
	equal "unload after the process's end: log" "$said" "7 hits, 7 returns, 0 misses"
}

refuses() { # what error parameter...
	local what=$1 error=$2

	shift 2
	equal "$what: refused" "$("$TARGET" "$(file_of "$module")" "$*")" "$error"
	[ ! -e "/sys/module/$module" ]
	equal "$what: not loaded" $? 0
}

refuses_each() {
	start
	refuses "no process" EINVAL pid=0 vaddr="$vaddr"
	refuses "a kernel thread" EINVAL pid=2 vaddr="$vaddr"
	refuses "a thread that is not there" ESRCH pid=4000000 vaddr="$vaddr"
	refuses "no address" EINVAL pid="$pid"
	refuses "a wrong size" EINVAL pid="$pid" vaddr="$vaddr" size=1
	ask "call 5"
	equal "refused: the process continues" "$answer" "5 0 0"
	stop
}

# Both modules have a probe at the same address.
share() {
	local first=${COUNTERS% *} second=${COUNTERS#* }

	start
	module=$first load
	module=$second load
	module="$first, $second"
	ask "call 100"
	rmmod "$first"
	listen "$first"
	equal "the first has counted" "$said" "100 hits, 0 returns, 0 misses"
	ask "call 10"
	rmmod "$second"
	listen "$second"
	equal "the other continues" "$said" "110 hits, 0 returns, 0 misses"
	ask text
	equal "text is restored" "$answer" "$text"
	stop
}

# The process sees the faults: the executions, the number of wrong results, the last one.
injects() { # what answer [parameter...]
	local what=$1 seen=$2

	shift 2
	start
	load "$@"
	ask "call 300"
	equal "$what: seen" "$answer" "$seen"
	unload_and_expect "$what" "300 calls, $(cut -d ' ' -f 2 <<< "$seen") faults"
	ask "call 300"
	equal "$what: no faults after that" "$answer" "300 0 0"
	stop
}

echo "TAP version 13"
[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -n "$KMODDIR" ] || skip_all "KMODDIR does not say where the modules are"
for module in $COUNTERS $FAULT; do
	[ -e "$(file_of "$module")" ] || skip_all "there is no $module.ko"
	rmmod "$module" 2> /dev/null
done
dmesg -C || skip_all "needs dmesg"

trap clean_up EXIT
mkfifo "$TMP/to" "$TMP/from"
exec {log}< <(exec dmesg --follow --notime)
follower=$!

for module in $COUNTERS; do
	counts "hits" "call 500 4" 2000 0
	# The size comes from the target, and is the same each time.
	counts "returns" "call 500 4" 2000 2000 size="$size"
	counts "a child that is followed" "fork 50" 50 50 follow=1 size="$size"
	shows
	limits
	changes
	exits_first
	refuses_each
done
share

module=$FAULT
injects "each third call" "200 100 -12" every=3
injects "each fourth call returns 0" "225 75 0" every=4 value=0
injects "each third return" "300 100 -5" every=3 at_return=1 value=-5
injects "each third return, by size" "300 100 7" every=3 at_return=1 value=7 size="$size"
refuses "every=0" EINVAL pid=1 every=0
equal "nothing else in the log" "$(dmesg | grep -E 'has left|disarmed|WARNING|BUG|Oops')" ""
finish
