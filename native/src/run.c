/* SPDX-License-Identifier: Apache-2.0 */
/* BPF_PROG_TEST_RUN. */
#include "internal.h"

int test_run(const struct program *program, union bpf_attr *attr, struct ptl_test_result *result)
{
	attr->test.prog_fd = (uint32_t)program->fd;
	int status = sys_bpf(BPF_PROG_TEST_RUN, attr, sizeof(*attr));

	result->retval = attr->test.retval;
	result->duration_ns = attr->test.duration;
	result->data_out_size = attr->test.data_size_out;
	result->ctx_out_size = attr->test.ctx_size_out;
	return status;
}

EXPORT int ptl_test_run(int number, const char *name, const void *data_in, uint32_t data_in_size, void *data_out,
			uint32_t data_out_size, void *ctx, uint32_t ctx_size, uint32_t repeat, uint32_t flags,
			void *result_out, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);
	struct ptl_test_result result = {};
	union bpf_attr attr = {};
	int status = -ENOENT;

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "test_run", "handle", "No such handle: %d", number);
	const struct program *program = handle_program(handle, name);

	attr.test.data_in = (uintptr_t)data_in;
	attr.test.data_size_in = data_in_size;
	attr.test.data_out = data_out_size ? (uintptr_t)data_out : 0;
	attr.test.data_size_out = data_out_size;
	attr.test.ctx_in = ctx_size ? (uintptr_t)ctx : 0;
	attr.test.ctx_out = ctx_size ? (uintptr_t)ctx : 0;
	attr.test.ctx_size_in = attr.test.ctx_size_out = ctx_size;
	attr.test.repeat = repeat;
	attr.test.flags = flags;
	if (program)
		status = test_run(program, &attr, &result);
	memcpy(result_out, &result, sizeof(result));
	if (status < 0)
		fail(&err, status, PTL_E_KERNEL, "test_run", name, "Cannot run the program: %s",
		     status == -ENOENT ? "the object has no such program" : strerror(-status));
	handle_put(handle);
	return status < 0 ? status : 0;
}
