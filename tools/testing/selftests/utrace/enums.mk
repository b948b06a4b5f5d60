# SPDX-License-Identifier: GPL-2.0
# utrace_enums.h, which utrace_selftest.h includes. Include this file after lib.mk.

# Programs must not include the kernel's header, so its enums and flags are extracted.
$(OUTPUT)/utrace_enums.h: $(top_srcdir)/include/linux/utrace.h
	$(call msg,GEN,,$@)
	$(Q)sed -n -e '/^enum .*{/,/^};/p' \
		-e '/^#define UTRACE_/{' -e ':a' -e 'p;/\\$$/{n;ba' -e '}' -e '}' $< > $@
