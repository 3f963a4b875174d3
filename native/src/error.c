/* SPDX-License-Identifier: Apache-2.0 */
/* Texts for the caller. A function that fails reports once, where it knows most. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

int fail(struct error *err, int number, const char *code, const char *op, const char *object, const char *format, ...)
{
	if (number < 0)
		number = -number;
	if (number == 0)
		number = EIO;
	if (err->size == 0 || err->text[0])
		return -number;

	int used = snprintf(err->text, err->size, "%s\t%s\t%s\n", code, op, object);
	va_list arguments;

	if (used < 0 || (uint32_t)used >= err->size)
		return -number;
	va_start(arguments, format);
	vsnprintf(err->text + used, err->size - (uint32_t)used, format, arguments);
	va_end(arguments);
	return -number;
}

void fail_log(struct error *err, const char *log)
{
	size_t used = err->size ? strlen(err->text) : 0;
	size_t length = strlen(log);

	if (used + 16 > err->size || length == 0)
		return;
	size_t room = err->size - used - 2;

	if (length > room) /* the end is where the verifier says what it did not like */
		log += length - room;
	snprintf(err->text + used, err->size - used, "\n%s", log);
}
