# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034  # Sourced by the other scripts.
# Where things are, how messages look, and how the kernel's make is called.
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$TOP/build
LOGS=$BUILD/logs
TREE=$BUILD/tree
JOBS=${JOBS:-$(nproc)}

say() { printf '%s\n' "$*"; }
die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

# minutes:seconds since $1 (a value of $SECONDS).
elapsed() { printf '%d:%02d' $(((SECONDS - $1) / 60)) $(((SECONDS - $1) % 60)); }

# long_step TEXT LOG COMMAND...: runs a command whose output goes to LOG; says
# every 20 s that it still runs; shows the end of LOG if it fails.
long_step() {
	local text=$1 log=$2 start=$SECONDS pid status=0 next
	shift 2
	say "$text"
	"$@" >"$log" 2>&1 &
	pid=$!
	next=$((SECONDS + 20))
	while kill -0 $pid 2>/dev/null; do
		sleep 0.2
		if ((SECONDS >= next)); then
			say "  [$(elapsed "$start")] $(tail -n 1 "$log" | cut -c1-100)"
			next=$((SECONDS + 20))
		fi
	done
	wait $pid || status=$?
	if ((status)); then
		tail -n 25 "$log" >&2
		die "failed: $text The whole log: $log"
	fi
	say "  done in $(elapsed "$start")"
}

bindgen() {
	if [[ -x $BUILD/tools/bin/bindgen ]]; then
		echo "$BUILD/tools/bin/bindgen"
	else
		echo /usr/bin/bindgen
	fi
}

# The tools by name, so that what else is in PATH (rustup, pyenv) does not matter.
kernel_make() { # OUTPUT_FOLDER ARGUMENT...
	local output=$1
	shift
	make --no-print-directory -C "$TREE" O="$output" -j"$JOBS" ARCH=x86_64 LLVM=-19 \
		LOCALVERSION= HOSTRUSTC=/usr/bin/rustc RUSTC=/usr/bin/rustc \
		RUSTDOC=/usr/bin/rustdoc RUSTFMT=/usr/bin/rustfmt \
		CLIPPY_DRIVER=/usr/bin/clippy-driver BINDGEN="$(bindgen)" \
		LIBCLANG_PATH=/usr/lib/llvm-19/lib PYTHON3=/usr/bin/python3 "$@"
}
