# SPDX-License-Identifier: GPL-2.0
# Rules for differential and differential_32; included after lib.mk.

DIFFERENTIAL_SRCS := $(filter-out %/decode.c, $(wildcard differential.d/*.c))
DIFFERENTIAL_SRCS += ../uprobes/selftest_process.c
DIFFERENTIAL_HDRS := $(wildcard differential.d/*.h) $(top_srcdir)/kernel/ubp/test/ubp_test.h

# Signal handlers run before the thread's own segments are restored.
DIFFERENTIAL_CFLAGS := $(CFLAGS) -fno-stack-protector -I$(top_srcdir)/kernel/ubp/test -I../uprobes

TOOLS := $(top_srcdir)/tools
INAT := $(OUTPUT)/inat-tables.c
EXTRA_CLEAN += $(INAT) $(OUTPUT)/decode.o $(OUTPUT)/decode_32.o

$(INAT): $(TOOLS)/arch/x86/lib/x86-opcode-map.txt
	$(call msg,GEN,,$@)
	$(Q)awk -f $(TOOLS)/arch/x86/tools/gen-insn-attr-x86.awk $< > $@

# The kernel's decoder has its own headers.
DECODE_CFLAGS := -O2 -g -Wall -I$(OUTPUT) -I$(TOOLS)/arch/x86/include -I$(TOOLS)/include

$(OUTPUT)/decode.o: differential.d/decode.c differential.d/encoding.h $(INAT)
	$(call msg,CC,,$@)
	$(Q)$(CC) $(DECODE_CFLAGS) -m64 -c $< -o $@

$(OUTPUT)/decode_32.o: differential.d/decode.c differential.d/encoding.h $(INAT)
	$(call msg,CC,,$@)
	$(Q)$(CC) $(DECODE_CFLAGS) -m32 -c $< -o $@

$(OUTPUT)/differential: $(DIFFERENTIAL_SRCS) $(OUTPUT)/decode.o $(DIFFERENTIAL_HDRS)
	$(call msg,CC,,$@)
	$(Q)$(CC) $(DIFFERENTIAL_CFLAGS) -m64 $(DIFFERENTIAL_SRCS) $(OUTPUT)/decode.o -lrt -o $@

$(OUTPUT)/differential_32: $(DIFFERENTIAL_SRCS) $(OUTPUT)/decode_32.o $(DIFFERENTIAL_HDRS)
	$(call msg,CC,,$@)
	$(Q)$(CC) $(DIFFERENTIAL_CFLAGS) -m32 $(DIFFERENTIAL_SRCS) $(OUTPUT)/decode_32.o -lrt -o $@
