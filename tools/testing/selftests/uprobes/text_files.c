// SPDX-License-Identifier: GPL-2.0
/* Text of files that change, and of the vDSO: its contents, and the return of its page. */
#include <elf.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#include "text_fixture.h"

static unsigned char *map(int fd, int prot)
{
	return mmap(NULL, PAGE, prot, MAP_PRIVATE, fd, 0);
}

/* A directory of the test's own, with a private tmpfs in it. */
static char dir[64];

static bool make_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/text_files_XXXXXX");
	return mkdtemp(dir) && !unshare(CLONE_NEWNS) &&
	       !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("text", dir, "tmpfs", 0, NULL);
}

static void remove_dir(void)
{
	umount2(dir, MNT_DETACH);
	rmdir(dir);
}

static const char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

TEST_F_TIMEOUT(module, on_tmpfs, TIMEOUT)
{
	unsigned char *text;
	int fd;

	ASSERT_TRUE(make_dir());
	fd = text_file(in_dir("text"));
	ASSERT_LE(0, fd);
	text = map(fd, RX);
	ASSERT_NE(MAP_FAILED, text);
	use(_metadata, self->dev, text);
	EXPECT_TRUE(page_is_of_file(getpid(), text));
	EXPECT_EQ(0, smaps_kb(getpid(), text, "Anonymous"));
	remove_dir();
}

/* Another file takes the name. The process keeps the file that it has mapped. */
TEST_F_TIMEOUT(module, replaced_by_rename, TIMEOUT)
{
	unsigned char *text;
	char from[128];
	int fd, id;

	ASSERT_TRUE(make_dir());
	fd = text_file(in_dir("text"));
	ASSERT_LE(0, fd);
	text = map(fd, RX);
	ASSERT_NE(MAP_FAILED, text);
	close(fd);
	id = PROBE(text);
	fd = text_file(in_dir("new"));
	ASSERT_EQ((ssize_t)sizeof(sub_code), pwrite(fd, sub_code, sizeof(sub_code), 0));
	close(fd);
	strcpy(from, in_dir("new"));
	ASSERT_EQ(0, rename(from, in_dir("text")));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	EXPECT_TRUE(page_is_of_file(getpid(), text));
	remove_dir();
}

/* The page is beyond the end of the file. The program gets the same signal as without a probe. */
TEST_F_TIMEOUT(module, truncated, TIMEOUT)
{
	int fd = text_file(NULL), id, status;
	unsigned char *text = map(fd, RX);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, text);
	id = PROBE(text);
	EXPECT_EQ(3, call(text, 1, 2));
	ASSERT_EQ(0, ftruncate(fd, 0));
	pid = fork();
	if (!pid) {
		call(text, 1, 2);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	UNPROBE(id);
	EXPECT_EQ(-EFAULT, dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK));

	/* The file grows again, with other contents than the old text. */
	ASSERT_EQ(0, ftruncate(fd, PAGE));
	EXPECT_EQ(0, byte_at(text));
	ASSERT_EQ((ssize_t)sizeof(sub_code), pwrite(fd, sub_code, sizeof(sub_code), 0));
	EXPECT_EQ(10, call(text, 30, 20));
	close(fd);
}

/*
 * The copy holds the text from when the probe was set. The process keeps the copy until the file's
 * contents equal the copy's, because the kernel cannot know whether copy or file has changed.
 */
TEST_F_TIMEOUT(module, file_written, TIMEOUT)
{
	int fd = text_file(NULL), id;
	unsigned char *text = map(fd, RX), byte = 0x90;

	ASSERT_NE(MAP_FAILED, text);
	ASSERT_EQ(1, pwrite(fd, &byte, 1, 100));
	EXPECT_EQ(0x90, byte_at(text + 100));
	id = PROBE(text);
	byte = 0x91;
	ASSERT_EQ(1, pwrite(fd, &byte, 1, 100));
	EXPECT_EQ(0x90, byte_at(text + 100));
	EXPECT_EQ(3, call(text, 1, 2));
	UNPROBE(id);
	EXPECT_EQ(0x90, byte_at(text + 100));
	EXPECT_FALSE(page_is_of_file(getpid(), text));
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));

	byte = 0x90;
	ASSERT_EQ(1, pwrite(fd, &byte, 1, 100));
	use(_metadata, self->dev, text);
	EXPECT_TRUE(page_is_of_file(getpid(), text));
	byte = 0x92;
	ASSERT_EQ(1, pwrite(fd, &byte, 1, 100));
	EXPECT_EQ(0x92, byte_at(text + 100));
	close(fd);
}

static bool mount_overlay(void)
{
	char options[512];

	mkdir(in_dir("lower"), 0700);
	mkdir(in_dir("upper"), 0700);
	mkdir(in_dir("work"), 0700);
	mkdir(in_dir("merged"), 0700);
	snprintf(options, sizeof(options), "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work",
		 dir, dir, dir);
	close(text_file(in_dir("lower/text")));
	return !mount("text", in_dir("merged"), "overlay", 0, options);
}

/* A file of the lower layer is copied up, and written to, while it is probed. */
TEST_F_TIMEOUT(module, overlay, TIMEOUT)
{
	unsigned char *lower, *upper, byte = 0x91;
	int fd, id, other;

	ASSERT_TRUE(make_dir());
	if (!mount_overlay()) {
		remove_dir();
		SKIP(return, "no overlayfs");
	}
	fd = open(in_dir("merged/text"), O_RDONLY);
	ASSERT_LE(0, fd);
	lower = map(fd, RX);
	ASSERT_NE(MAP_FAILED, lower);
	close(fd);
	use(_metadata, self->dev, lower);
	EXPECT_TRUE(page_is_of_file(getpid(), lower));

	id = PROBE(lower);
	fd = open(in_dir("merged/text"), O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, pwrite(fd, &byte, 1, 100));
	ASSERT_EQ(0, access(in_dir("upper/text"), F_OK));
	upper = map(fd, RX);
	ASSERT_NE(MAP_FAILED, upper);
	EXPECT_EQ(0x91, byte_at(upper + 100));
	other = PROBE(upper);
	EXPECT_EQ(3, call(lower, 1, 2));
	EXPECT_EQ(3, call(upper, 1, 2));
	EXPECT_EQ(1, HITS(id));
	EXPECT_EQ(1, HITS(other));
	UNPROBE(id);
	UNPROBE(other);
	EXPECT_EQ(0, byte_at(lower + 100));
	EXPECT_EQ(0x91, byte_at(upper + 100));
	EXPECT_TRUE(page_is_of_file(getpid(), lower));
	EXPECT_TRUE(page_is_of_file(getpid(), upper));
	close(fd);
	remove_dir();
}

/* Text that the process may write to. The file's page returns if it has not written. */
TEST_F_TIMEOUT(module, writable, TIMEOUT)
{
	int fd = text_file(NULL), id;
	unsigned char *text = map(fd, RWX);

	ASSERT_NE(MAP_FAILED, text);
	use(_metadata, self->dev, text);
	EXPECT_TRUE(page_is_of_file(getpid(), text));
	EXPECT_EQ(0, smaps_kb(getpid(), text, "Anonymous"));

	/* The process's writes stay, before the probe as well as during it. */
	text[100] = 1;
	use(_metadata, self->dev, text);
	EXPECT_EQ(1, byte_at(text + 100));
	EXPECT_FALSE(page_is_of_file(getpid(), text));
	ASSERT_EQ(0, madvise(text, PAGE, MADV_DONTNEED));
	id = PROBE(text);
	text[100] = 2;
	UNPROBE(id);
	EXPECT_EQ(2, byte_at(text + 100));
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	close(fd);
}

static atomic_bool stop;

/* Counts up from 0, the file's value, by stores, and back to 0 by a write of the kernel. */
static void *writer(void *arg)
{
	unsigned char *counter = arg, want = 0;
	int zero = open("/dev/zero", O_RDONLY);
	bool lost = false;

	while (!stop) {
		while (want < 3) {
			if (byte_at(counter) != want)
				lost = true;
			__atomic_store_n(counter, ++want, __ATOMIC_RELAXED);
		}
		if (byte_at(counter) != want || read(zero, counter, 1) != 1)
			lost = true;
		want = 0;
	}
	close(zero);
	return lost ? "lost" : NULL;
}

/* No write is lost when the file's page returns, although the copy often equals it for a moment. */
TEST_F_TIMEOUT(module, written_all_the_time, TIMEOUT)
{
	int fd = text_file(NULL), id;
	unsigned char *text = map(fd, RWX);
	pthread_t thread;
	unsigned int i;
	void *lost;

	ASSERT_NE(MAP_FAILED, text);
	ASSERT_EQ(0, pthread_create(&thread, NULL, writer, text + 100));
	for (i = 0; i < scaled(300); i++) {
		id = PROBE(text);
		ASSERT_EQ(3, call(text, 1, 2));
		ASSERT_EQ(1, HITS(id));
		UNPROBE(id);
	}
	stop = true;
	ASSERT_EQ(0, pthread_join(thread, &lost));
	EXPECT_EQ(NULL, lost);
	close(fd);
}

/* The text is not executable for a while. Then all is as before, and the probe continues. */
TEST_F_TIMEOUT(module, protected_for_a_while, TIMEOUT)
{
	static const int protections[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	int fd = text_file(NULL), id;
	unsigned char *text = map(fd, RX);
	unsigned int i;

	ASSERT_NE(MAP_FAILED, text);
	id = PROBE(text);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, mprotect(text, PAGE, protections[i]));
		EXPECT_EQ(-EINVAL, dev_register(self->dev, getpid(), text + 4,
						UPROBES_TEST_TASK));
		ASSERT_EQ(0, mprotect(text, PAGE, RX));
		EXPECT_EQ(3, call(text, 1, 2));
		EXPECT_EQ(i + 1, HITS(id));
	}
	/* The probe is removed while the text is inaccessible. */
	ASSERT_EQ(0, mprotect(text, PAGE, PROT_NONE));
	UNPROBE(id);
	ASSERT_EQ(0, mprotect(text, PAGE, RX));
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
	EXPECT_TRUE(page_is_of_file(getpid(), text));
	close(fd);
}

static bool resident(const void *shared)
{
	unsigned char in_core = 0;

	return !mincore((void *)shared, PAGE, &in_core) && (in_core & 1);
}

/*
 * The page cache has dropped the page, and the removal does not read it. Once the page has been
 * read, the next removal maps it again. Only a filesystem with a server or a disk behind it shows
 * this.
 */
TEST_F_TIMEOUT(module, reclaimed, TIMEOUT)
{
	/* The header serves as code: 0x7f is jg, of two bytes. */
	int fd = open("target32", O_RDONLY | O_CLOEXEC), id;
	unsigned char *text = map(fd, RX), byte;
	void *shared;

	if (text == MAP_FAILED)
		SKIP(return, "no target32");
	shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_EQ(0x7f, byte_at(text));
	ASSERT_EQ(0, madvise(text, PAGE, MADV_DONTNEED));
	id = PROBE(text);
	set_file("/proc/sys/vm/drop_caches", "1");
	posix_fadvise(fd, 0, PAGE, POSIX_FADV_DONTNEED);
	if (resident(shared)) {
		UNPROBE(id);
		SKIP(return, "the page stays in the page cache");
	}
	UNPROBE(id);
	EXPECT_FALSE(resident(shared));
	EXPECT_EQ(0x7f, byte_at(text));
	EXPECT_FALSE(page_is_of_file(getpid(), text));

	ASSERT_EQ(1, pread(fd, &byte, 1, 0));
	id = PROBE(text);
	UNPROBE(id);
	EXPECT_TRUE(page_is_of_file(getpid(), text));
	EXPECT_TRUE(text_is_of_file(getpid(), text, PAGE));
	close(fd);
}

/* Has the same address in a child. */
static struct timespec shared_ts;

typedef int (*clock_fn)(clockid_t clock, struct timespec *ts);

/* Finds a function of the vDSO as the C library does. */
static void *vdso_function(const char *name)
{
	char *vdso = (char *)getauxval(AT_SYSINFO_EHDR), *strings = NULL;
	Elf64_Ehdr *header = (Elf64_Ehdr *)vdso;
	Elf64_Phdr *segment;
	Elf64_Dyn *dynamic = NULL;
	Elf64_Sym *symbols = NULL;
	unsigned int i;

	if (!vdso)
		return NULL;
	segment = (Elf64_Phdr *)(vdso + header->e_phoff);
	for (i = 0; i < header->e_phnum; i++)
		if (segment[i].p_type == PT_DYNAMIC)
			dynamic = (Elf64_Dyn *)(vdso + segment[i].p_offset);
	for (; dynamic && dynamic->d_tag; dynamic++) {
		if (dynamic->d_tag == DT_STRTAB)
			strings = vdso + dynamic->d_un.d_ptr;
		if (dynamic->d_tag == DT_SYMTAB)
			symbols = (Elf64_Sym *)(vdso + dynamic->d_un.d_ptr);
	}
	/* The strings follow the symbols. */
	for (i = 1; symbols && strings && (char *)&symbols[i + 1] <= strings; i++)
		if (!strcmp(strings + symbols[i].st_name, name))
			return vdso + symbols[i].st_value;
	return NULL;
}

TEST_F_TIMEOUT(module, vdso, TIMEOUT)
{
	unsigned char *at = vdso_function("__vdso_clock_gettime"), before[PAGE], *page;
	uint64_t last = 0, now, entry;
	struct target other;
	struct timespec ts;
	unsigned int i;
	int id;

	if (!at)
		SKIP(return, "no vDSO");
	page = (unsigned char *)((unsigned long)at & -PAGE);
	memcpy(before, page, PAGE);
	entry = pagemap_entry(getpid(), page);
	ASSERT_NE(0, PM_PFN(entry));
	ASSERT_TRUE(target_start(&other));

	id = PROBE(at);
	EXPECT_EQ(INT3, byte_at(at));
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, ((clock_fn)at)(CLOCK_MONOTONIC, &ts));
		now = ts.tv_sec * 1000000000ULL + ts.tv_nsec;
		EXPECT_LE(last, now);
		last = now;
	}
	EXPECT_EQ(100, HITS(id));
	/* Another process executes the kernel's page as before. */
	EXPECT_EQ(0, (int)target_call(&other, (probed_fn)at, CLOCK_MONOTONIC,
				      (unsigned long)&shared_ts, 1));
	EXPECT_EQ(100, HITS(id));
	EXPECT_NE(PM_PFN(entry), PM_PFN(pagemap_entry(getpid(), page)));
	EXPECT_EQ(PM_PFN(entry), PM_PFN(pagemap_entry(other.pid, page)));

	UNPROBE(id);
	EXPECT_EQ(0, memcmp(before, page, PAGE));
	EXPECT_EQ(PM_PFN(entry), PM_PFN(pagemap_entry(getpid(), page)));
	EXPECT_EQ(0, ((clock_fn)at)(CLOCK_MONOTONIC, &ts));
	target_stop(&other);
}

/* Shared mappings are not probed, because others see the breakpoint, or could. */
TEST_F_TIMEOUT(module, shared, TIMEOUT)
{
	unsigned char *text;
	int fd, readonly;

	ASSERT_TRUE(make_dir());
	fd = text_file(in_dir("text"));
	readonly = open(in_dir("text"), O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, readonly);
	text = mmap(NULL, PAGE, RWX, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, text);
	EXPECT_EQ(-EINVAL, dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK));
	text = mmap(NULL, PAGE, RX, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, text);
	EXPECT_EQ(-EINVAL, dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK));
	text = mmap(NULL, PAGE, RX, MAP_SHARED, readonly, 0);
	ASSERT_NE(MAP_FAILED, text);
	EXPECT_EQ(-EINVAL, dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK));
	text = mmap(NULL, PAGE, RWX, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, text);
	memcpy(text, add_code, sizeof(add_code));
	EXPECT_EQ(-EINVAL, dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK));
	close(fd);
	close(readonly);
	remove_dir();
}

/* Mappings that are not text. */
TEST_F_TIMEOUT(module, other_mappings, TIMEOUT)
{
	static const char * const names[] = { "[vvar]", "[vvar_vclock]", "[stack]", "[heap]" };
	unsigned long start, refused = 0, i;
	char line[512], *heap = malloc(64);
	FILE *maps = fopen("/proc/self/maps", "r");

	ASSERT_NE(NULL, maps);
	ASSERT_NE(NULL, heap);
	while (fgets(line, sizeof(line), maps)) {
		for (i = 0; i < 4; i++) {
			if (!strstr(line, names[i]) || sscanf(line, "%lx-", &start) != 1)
				continue;
			EXPECT_EQ(-EINVAL, dev_register(self->dev, getpid(), (void *)start,
							UPROBES_TEST_TASK));
			refused++;
		}
	}
	fclose(maps);
	free(heap);
	EXPECT_LE(2, refused);
	/* The vsyscall page, if there is one, is the kernel's. */
	EXPECT_EQ(-EINVAL, dev_register(self->dev, getpid(), (void *)0xffffffffff600000UL,
					UPROBES_TEST_TASK));
}

TEST_HARNESS_MAIN
