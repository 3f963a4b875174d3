/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching and detaching: both directions of an interface, with tcx (tcx_link.c) or with clsact (clsact.c). */
#include <net/if.h>

#include "abi.h"
#include "hooks.h"

static int program_fd(const struct handle *handle, uint32_t role, bool out)
{
	char name[16];

	snprintf(name, sizeof(name), "ptl_%s_%s", role == PTL_ROLE_POD ? "pod" : "net", direction_name(out));
	for (uint32_t i = 0; i < handle->program_count; i++)
		if (!strcmp(handle->programs[i].name, name))
			return handle->programs[i].fd;
	return -ENOENT;
}

/*
 * Both ways of attaching put egress first: a reply that passes an interface half attached must find its way back. When
 * ingress then fails, an egress that is new goes again, for one direction without the other would translate and never
 * translate back. What an earlier life left stays, whatever fails: it works.
 */
static int attach_tcx(const char *pins, uint32_t ifindex, const int fds[2], uint32_t *change)
{
	uint32_t in = PTL_CHANGE_NONE, out = PTL_CHANGE_NONE;
	int status = tcx_put(pins, ifindex, true, fds[1], &out);

	if (status == 0)
		status = tcx_put(pins, ifindex, false, fds[0], &in);
	if (status < 0 && out == PTL_CHANGE_NEW && in == PTL_CHANGE_NONE)
		tcx_remove(pins, ifindex, true);
	if (status == 0 && clsact_known(pins, ifindex))
		clsact_remove(pins, ifindex); /* of an earlier life in the other mode */
	*change = in > out ? in : out;
	return status;
}

static int attach_clsact(const char *pins, uint32_t ifindex, const int fds[2], uint32_t *change, const char **code)
{
	uint32_t in = PTL_CHANGE_NONE, out = PTL_CHANGE_NONE;
	bool known = clsact_known(pins, ifindex);
	int status = clsact_ensure(pins, ifindex, code);

	if (status == 0)
		status = filter_put(ifindex, true, fds[1], &out, code);
	if (status == 0)
		status = filter_put(ifindex, false, fds[0], &in, code);
	if (status < 0 && out == PTL_CHANGE_NEW && in == PTL_CHANGE_NONE)
		filter_remove(ifindex, true);
	if (status < 0 && !known && out != PTL_CHANGE_REPLACED && in == PTL_CHANGE_NONE)
		clsact_forget(pins, ifindex);
	if (status == 0) { /* of an earlier life in the other mode */
		tcx_remove(pins, ifindex, false);
		tcx_remove(pins, ifindex, true);
	}
	*change = in > out ? in : out;
	return status;
}

static int attach_one(const struct handle *handle, const struct ptl_attach_request *request, struct ptl_attach_result *result,
		      bool tcx, const char **code)
{
	int fds[2] = { program_fd(handle, request->role, false), program_fd(handle, request->role, true) };
	char name[IF_NAMESIZE];

	*code = PTL_E_KERNEL;
	if (fds[0] < 0 || fds[1] < 0) {
		*code = PTL_E_OBJECT;
		return -ENOENT;
	}
	if (!if_indextoname(request->ifindex, name)) {
		*code = PTL_E_NO_DEVICE;
		return -ENODEV;
	}
	if (request->mode == PTL_MODE_TCX && !tcx) {
		*code = PTL_E_NO_TCX;
		return -EOPNOTSUPP;
	}
	result->mode = tcx && request->mode != PTL_MODE_CLSACT ? PTL_MODE_TCX : PTL_MODE_CLSACT;
	int status = result->mode == PTL_MODE_TCX ?
			     attach_tcx(handle->pins, request->ifindex, fds, &result->change) :
			     attach_clsact(handle->pins, request->ifindex, fds, &result->change, code);

	if (status == -EXDEV)
		*code = PTL_E_FOREIGN_LINK;
	/* The interface may go while we are at it. */
	if (status < 0 && !if_indextoname(request->ifindex, name)) {
		*code = PTL_E_NO_DEVICE;
		return -ENODEV;
	}
	return status;
}

static const char *explain(const char *code, int status)
{
	if (!strcmp(code, PTL_E_INGRESS_QDISC))
		return "a qdisc `ingress` is in the way of clsact";
	if (!strcmp(code, PTL_E_FOREIGN_FILTER))
		return "another program's filter has our preference and handle";
	if (!strcmp(code, PTL_E_FOREIGN_LINK))
		return "the pin of its link serves an interface of another network namespace";
	if (!strcmp(code, PTL_E_NO_DEVICE))
		return "there is no such interface";
	if (!strcmp(code, PTL_E_NO_TCX))
		return "this kernel has no tcx";
	if (!strcmp(code, PTL_E_OBJECT))
		return "the object lacks the program for this role";
	return strerror(-status);
}

int make_links_directory(struct error *err, const char *pins)
{
	char path[512], made[512];

	if (!pins[0])
		return fail(err, EINVAL, PTL_E_ARGUMENT, "attach", "handle", "Programs are attached only from an object with pins");
	snprintf(path, sizeof(path), "%s/links", pins);
	int result = make_directories(path, made, sizeof(made));

	return result < 0 ? fail(err, result, PTL_E_BPFFS, "attach", path, "Cannot make the directory: %s", strerror(-result)) : 0;
}

EXPORT int ptl_attach(int number, const void *requests, uint32_t count, void *results, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);
	int succeeded = 0;

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "attach", "handle", "No such handle: %d", number);
	int status = make_links_directory(&err, handle->pins);

	if (status < 0) {
		handle_put(handle);
		return status;
	}
	int tcx = tcx_available();

	/* Not to be guessed: clsact would then take the place of links that are at work. */
	if (tcx < 0) {
		handle_put(handle);
		return fail(&err, tcx, PTL_E_KERNEL, "attach", "tcx", "Cannot find out whether the kernel has tcx: %s", strerror(-tcx));
	}
	for (uint32_t i = 0; i < count; i++) {
		const char *code;
		struct ptl_attach_request request;
		struct ptl_attach_result result = {};

		memcpy(&request, (const uint8_t *)requests + i * sizeof(request), sizeof(request));
		status = attach_one(handle, &request, &result, tcx > 0, &code);
		if (status < 0) {
			char object[32];

			result.error = (uint32_t)-status;
			snprintf(result.code, sizeof(result.code), "%s", code);
			snprintf(object, sizeof(object), "ifindex %u", request.ifindex);
			fail(&err, status, code, "attach", object, "Cannot attach: %s", explain(code, status));
		} else {
			succeeded++;
		}
		memcpy((uint8_t *)results + i * sizeof(result), &result, sizeof(result));
	}
	handle_put(handle);
	return succeeded;
}

EXPORT int ptl_detach(const char *pins, const void *ifindexes, uint32_t count, char *text, uint32_t text_size)
{
	int removed = 0;

	error_begin(text, text_size);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t ifindex;

		memcpy(&ifindex, (const uint8_t *)ifindexes + i * 4, 4);
		removed += tcx_remove(pins, ifindex, false) + tcx_remove(pins, ifindex, true);
		removed += clsact_remove(pins, ifindex);
	}
	return removed;
}
