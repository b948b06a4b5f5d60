/* SPDX-License-Identifier: GPL-2.0 */
/* Fixture of the tests of text. */
#ifndef _TEXT_FIXTURE_H
#define _TEXT_FIXTURE_H

#include "module_fixture.h"
#include "text.h"

/* Probes @text: hits are counted, and unregistering restores the contents. */
static inline void use(struct __test_metadata *_metadata, int dev, unsigned char *text)
{
	unsigned char before[PAGE];
	unsigned int i;
	int id;

	memcpy(before, text, PAGE);
	id = dev_register(dev, getpid(), text, UPROBES_TEST_TASK);
	ASSERT_LT(0, id);
	EXPECT_EQ(INT3, byte_at(text));
	EXPECT_EQ(0, memcmp(before + 1, text + 1, PAGE - 1));
	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 1, call(text, i, 1));
	EXPECT_EQ(100, dev_hits(dev, id));
	EXPECT_EQ(0, dev_unregister(dev, id));
	EXPECT_EQ(0, memcmp(before, text, PAGE));
	EXPECT_EQ(3, call(text, 1, 2));
}

#endif /* _TEXT_FIXTURE_H */
