# SPDX-License-Identifier: GPL-2.0
# utrace_enums.h, which utrace_selftest.h includes. Comes after lib.mk.

# The kernel's header is not to be included here: its enums and flags are taken out.
$(OUTPUT)/utrace_enums.h: $(top_srcdir)/include/linux/utrace.h
	$(call msg,GEN,,$@)
	$(Q)sed -n -e '/^enum .*{/,/^};/p' \
		-e '/^#define UTRACE_/{' -e ':a' -e 'p;/\\$$/{n;ba' -e '}' -e '}' $< > $@
