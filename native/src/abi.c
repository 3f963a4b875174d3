/* SPDX-License-Identifier: Apache-2.0 */
/* What the library was built from. The generated header asserts every size and offset at compile time. */
#include "abi_hash.gen.h"
#include "internal.h"

EXPORT int ptl_abi_version(void)
{
	return PTL_LAYOUT_VERSION;
}

EXPORT int ptl_abi_hash(void *out)
{
	uint64_t hash = PTL_ABI_HASH;

	memcpy(out, &hash, sizeof(hash));
	return 0;
}

EXPORT int ptl_choice_tag_of(const void *key, uint32_t size)
{
	uint32_t words[16];

	if (size % 4 || size > sizeof(words))
		return -EINVAL;
	memcpy(words, key, size); /* the caller's buffer may not be aligned */
	return (int)ptl_choice_tag(words, size / 4);
}

EXPORT int ptl_mark_index_of(const void *address, uint32_t size, uint32_t mark)
{
	uint32_t words[4];

	if (size % 4 || size > sizeof(words))
		return -EINVAL;
	memcpy(words, address, size);
	return (int)ptl_mark_index(words, size / 4, mark);
}
