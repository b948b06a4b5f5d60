// SPDX-License-Identifier: GPL-2.0
/* Module that inserts breakpoints: see device.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "compare.h"
#include "device.h"

/* The timers of the test also interrupt ioctl(). */
static int command(int device, unsigned long request, void *argument)
{
	int result;

	do {
		result = ioctl(device, request, argument);
	} while (result < 0 && errno == EINTR);
	return result;
}

int device_open(void)
{
	int device = open(UBP_TEST_DEVICE, O_RDWR | O_CLOEXEC);

	return device < 0 ? -errno : device;
}

bool device_analyze(int device, struct ubp_test_insn *insns, const struct encoding *encodings,
		    unsigned int count)
{
	struct ubp_test_analyze analyze = { .insns = (uintptr_t)insns, .count = count };
	const char *reason;
	unsigned int i;

	if (device != NATIVE)
		return !command(device, UBP_TEST_ANALYZE, &analyze);
	for (i = 0; i < count; i++) {
		reason = leaves_program(&encodings[i]);
		insns[i].len = encodings[i].len;
		insns[i].plan = reason ? UBP_TEST_REFUSED : UBP_TEST_STEP;
		snprintf(insns[i].reason, sizeof(insns[i].reason), "%s", reason ?: "");
	}
	return true;
}

int device_insert(int device, uintptr_t at, unsigned int flags, unsigned int *plan)
{
	struct ubp_test_insert insert = { .flags = flags, .vaddr = at };
	int id;

	if (device == NATIVE)
		return 1;
	id = command(device, UBP_TEST_INSERT, &insert);
	*plan = insert.plan;
	return id < 0 ? -errno : id;
}

int device_remove(int device, int id)
{
	if (device == NATIVE)
		return 0;
	return command(device, UBP_TEST_REMOVE, (void *)(long)id) ? -errno : 0;
}

bool device_count(int device, int id, struct ubp_test_count *count)
{
	memset(count, 0, sizeof(*count));
	count->id = id;
	return !command(device, UBP_TEST_COUNT, count);
}
