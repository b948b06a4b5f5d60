// SPDX-License-Identifier: GPL-2.0

#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/shmem_fs.h>

__rust_helper void rust_helper_i_mmap_lock_read(struct address_space *mapping)
{
	i_mmap_lock_read(mapping);
}

__rust_helper void rust_helper_i_mmap_unlock_read(struct address_space *mapping)
{
	i_mmap_unlock_read(mapping);
}

__rust_helper loff_t rust_helper_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

__rust_helper struct inode *rust_helper_file_inode(const struct file *f)
{
	return file_inode(f);
}

__rust_helper bool rust_helper_shmem_mapping(const struct address_space *mapping)
{
	return shmem_mapping(mapping);
}

__rust_helper bool rust_helper_mm_flags_test(int flag, const struct mm_struct *mm)
{
	return mm_flags_test(flag, mm);
}

__rust_helper void rust_helper_mm_flags_set(int flag, struct mm_struct *mm)
{
	mm_flags_set(flag, mm);
}
