// SPDX-License-Identifier: GPL-2.0
/* Text of a file whose filesystem is served by the probed process itself. */
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "text_fixture.h"

#define TEXT_NODE	2
#define ALWAYS		1000000

static int fuse;
static char dir[64];
static atomic_uint reads;

static struct fuse_attr attr_of(uint64_t node)
{
	bool is_dir = node == FUSE_ROOT_ID;

	return (struct fuse_attr) {
		.ino = node,
		.size = is_dir ? 0 : PAGE,
		.blksize = PAGE,
		.mode = is_dir ? S_IFDIR | 0755 : S_IFREG | 0755,
		.nlink = 1,
	};
}

static void reply(uint64_t unique, int error, const void *data, size_t len)
{
	struct {
		struct fuse_out_header header;
		unsigned char data[PAGE];
	} out = { .header = { sizeof(out.header) + len, error, unique } };

	memcpy(out.data, data, len);
	if (write(fuse, &out, out.header.len) < 0)
		perror("reply");
}

/* Serves a page, for which the process needs its mmap lock. */
static void read_text(const struct fuse_in_header *in)
{
	unsigned char *page = anonymous_text(PROT_READ | PROT_WRITE);

	if (page == MAP_FAILED) {
		reply(in->unique, -ENOMEM, NULL, 0);
		return;
	}
	reads++;
	reply(in->unique, 0, page, PAGE);
	munmap(page, PAGE);
}

static void serve_one(const struct fuse_in_header *in)
{
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION,
		.minor = 31,
		.max_readahead = PAGE,
		.max_write = PAGE,
		.time_gran = 1,
	};
	struct fuse_entry_out entry = {
		.nodeid = TEXT_NODE,
		.entry_valid = ALWAYS,
		.attr_valid = ALWAYS,
		.attr = attr_of(TEXT_NODE),
	};
	struct fuse_attr_out attr = { .attr_valid = ALWAYS, .attr = attr_of(in->nodeid) };
	struct fuse_open_out opened = { .open_flags = 0 };

	switch (in->opcode) {
	case FUSE_INIT:
		reply(in->unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		reply(in->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
		reply(in->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		reply(in->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:
		read_text(in);
		break;
	case FUSE_RELEASE:
		reply(in->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		reply(in->unique, -EOPNOTSUPP, NULL, 0);
	}
}

static void *serve(void *arg)
{
	static union {
		struct fuse_in_header header;
		unsigned char data[1 << 18];
	} in;

	while (read(fuse, &in, sizeof(in)) > 0)
		serve_one(&in.header);
	return NULL;
}

static bool set_up(void)
{
	char options[96], device[80];

	snprintf(dir, sizeof(dir), "/tmp/text_fuse_XXXXXX");
	if (!mkdtemp(dir))
		return false;
	snprintf(device, sizeof(device), "%s.fuse", dir);
	if (mknod(device, S_IFCHR | 0600, makedev(10, 229)))
		return false;
	fuse = open(device, O_RDWR | O_CLOEXEC);
	unlink(device);
	if (fuse < 0)
		return false;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
	return !mount("text_fuse", dir, "fuse", 0, options);
}

/* The page is not in memory when a probe is registered, neither the first time nor the second. */
TEST_F_TIMEOUT(module, served_by_the_probed_process, TIMEOUT)
{
	unsigned char *text;
	pthread_t server;
	unsigned int i;
	char path[80];
	int fd, id;

	if (!set_up())
		SKIP(return, "no FUSE");
	ASSERT_EQ(0, pthread_create(&server, NULL, serve, NULL));
	snprintf(path, sizeof(path), "%s/text", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	for (i = 1; i <= 2; i++) {
		text = mmap(NULL, PAGE, RX, MAP_PRIVATE, fd, 0);
		ASSERT_NE(MAP_FAILED, text);
		id = PROBE(text);
		EXPECT_EQ(i, reads);
		EXPECT_EQ(3, call(text, 1, 2));
		EXPECT_EQ(1, HITS(id));
		UNPROBE(id);
		EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
		munmap(text, PAGE);
		/* The next probe finds nothing in the page cache. */
		ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	}
	close(fd);
	EXPECT_EQ(0, umount2(dir, MNT_DETACH));
	pthread_join(server, NULL);
	close(fuse);
	rmdir(dir);
}

TEST_HARNESS_MAIN
