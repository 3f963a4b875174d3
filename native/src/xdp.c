/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The XDP hook: pinned links, <pins>/links/<ifindex>-xdp, so that the program outlives the process; the next life puts its own in by
 * BPF_LINK_UPDATE. The kernel lets nobody replace the program of a link, and gives us no link where another program is.
 */
#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include "hooks.h"

#define XDP_PROGRAM "ptl_xdp"
#define XDP_SUFFIX "xdp"

static uint32_t mode_of(uint8_t attached)
{
	switch (attached) {
	case XDP_ATTACHED_NONE:
		return PTL_XDP_NONE;
	case XDP_ATTACHED_SKB:
		return PTL_XDP_GENERIC;
	case XDP_ATTACHED_DRV:
		return PTL_XDP_NATIVE;
	default:
		return PTL_XDP_OTHER;
	}
}

static void read_xdp(struct ptl_xdp_state *state, const struct rtattr *xdp)
{
	int left = (int)RTA_PAYLOAD(xdp);

	for (const struct rtattr *a = RTA_DATA(xdp); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_XDP_ATTACHED && RTA_PAYLOAD(a) >= 1)
			state->mode = mode_of(*(const uint8_t *)RTA_DATA(a));
		if (a->rta_type == IFLA_XDP_PROG_ID)
			netlink_number(&state->program_id, a);
	}
}

static int visit_link(const void *data, void *context)
{
	const struct nlmsghdr *message = data;
	const struct ifinfomsg *info = NLMSG_DATA(message);
	struct ptl_xdp_state *state = context;
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));

	if (message->nlmsg_type != RTM_NEWLINK || !netlink_has(message, sizeof(*info)) || (uint32_t)info->ifi_index != state->ifindex)
		return 0;
	for (const struct rtattr *a = IFLA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(a) == sizeof(state->address))
			memcpy(state->address, RTA_DATA(a), sizeof(state->address));
		if ((a->rta_type & NLA_TYPE_MASK) == IFLA_XDP)
			read_xdp(state, a);
	}
	return 0;
}

/* What is at the hook of an interface. 0, or -errno (-ENODEV: there is no such interface). */
static int read_state(uint32_t ifindex, struct ptl_xdp_state *state)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} request = {
		.header = { .nlmsg_len = sizeof(request), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST },
		.info = { .ifi_index = (int)ifindex },
	};
	struct program_info program;

	memset(state, 0, sizeof(*state));
	state->ifindex = ifindex;
	int result = netlink_ask(&request, sizeof(request), visit_link, state);

	if (result < 0)
		return result;
	if (state->program_id && program_info(state->program_id, &program) == 0) {
		memcpy(state->name, program.name, sizeof(state->name));
		memcpy(state->tag, program.tag, sizeof(state->tag));
		state->ours = !strncmp(program.name, "ptl_", 4);
	}
	return 0;
}

/* The pinned link, when the program at the hook is the link's. A dead link's pin is removed, as by open_link(). -errno as there. */
static int open_at_hook(const char *path, const struct ptl_xdp_state *state)
{
	struct bpf_link_info info = {};
	uint32_t size = sizeof(info);
	int link = bpf_obj_get(path);

	if (link < 0)
		return -errno;
	int result = bpf_obj_get_info_by_fd(link, &info, &size) < 0 ? -errno : 0;

	if (result == 0 && info.xdp.ifindex == state->ifindex && info.prog_id == state->program_id)
		return link;
	close(link);
	if (result < 0)
		return result;
	if (info.xdp.ifindex)
		return -EXDEV;
	return unlink(path) < 0 ? -errno : -ENOENT;
}

static int create(const char *path, uint32_t ifindex, uint32_t mode, int program_fd)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = mode == PTL_XDP_NATIVE ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
	int link = bpf_link_create(program_fd, (int)ifindex, BPF_XDP, &options);

	return link < 0 ? -errno : link_pin(link, path);
}

int xdp_remove(const char *pins, uint32_t ifindex)
{
	return link_remove(pins, ifindex, XDP_SUFFIX);
}

int xdp_sweep(const char *pins, uint32_t ifindex)
{
	struct ptl_xdp_state state;
	char path[512];

	link_path(path, pins, ifindex, XDP_SUFFIX);
	if (read_state(ifindex, &state) < 0)
		state = (struct ptl_xdp_state){ .ifindex = ifindex };
	int link = open_at_hook(path, &state);

	if (link >= 0)
		close(link);
	return link < 0 && access(path, F_OK) < 0;
}

/* PTL_CHANGE_NEW or _REPLACED, or -errno. */
static int put(const char *pins, const struct ptl_xdp_state *state, uint32_t mode, int program_fd)
{
	char path[512];

	link_path(path, pins, state->ifindex, XDP_SUFFIX);
	int link = open_at_hook(path, state);

	if (link >= 0 && state->mode == mode) {
		int result = link_replace(link, program_fd);

		return result < 0 ? result : PTL_CHANGE_REPLACED;
	}
	if (link >= 0) { /* in the other mode: tc serves what comes in between */
		close(link);
		xdp_remove(pins, state->ifindex);
	} else if (link != -ENOENT) {
		return link;
	} else if (state->program_id) {
		return -EBUSY;
	}
	int result = create(path, state->ifindex, mode, program_fd);

	return result < 0 ? result : PTL_CHANGE_NEW;
}

static int refused(struct error *err, const struct ptl_xdp_state *state, uint32_t mode, int result)
{
	const char *way = mode == PTL_XDP_NATIVE ? "native" : "generic";
	char object[32], name[IF_NAMESIZE];

	snprintf(object, sizeof(object), "ifindex %u", state->ifindex);
	if (!if_indextoname(state->ifindex, name))
		return fail(err, ENODEV, PTL_E_NO_DEVICE, "xdp_attach", object, "There is no such interface");
	if (result == -EXDEV)
		return fail(err, EXDEV, PTL_E_FOREIGN_LINK, "xdp_attach", object,
			    "The pin of its XDP link serves an interface of another network namespace");
	if (result == -EBUSY && state->program_id)
		return fail(err, EBUSY, PTL_E_XDP_BUSY, "xdp_attach", object, "The XDP program %.16s (id %u) is at %s",
			    state->name[0] ? state->name : "of somebody else", state->program_id, name);
	if (result == -EOPNOTSUPP)
		return fail(err, EOPNOTSUPP, PTL_E_XDP_UNSUPPORTED, "xdp_attach", object, "The driver of %s has no %s XDP", name, way);
	return fail(err, result, PTL_E_KERNEL, "xdp_attach", object, "Cannot attach %s XDP to %s: %s", way, name, strerror(-result));
}

EXPORT int ptl_xdp_attach(int number, uint32_t ifindex, uint32_t mode, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);
	struct ptl_xdp_state state;

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "xdp_attach", "handle", "No such handle: %d", number);
	const struct program *program = handle_program(handle, XDP_PROGRAM);
	int result = make_links_directory(&err, handle->pins);

	if (result == 0 && !program)
		result = fail(&err, ENOENT, PTL_E_OBJECT, "xdp_attach", XDP_PROGRAM, "The object was opened without its XDP program");
	if (result == 0) {
		result = read_state(ifindex, &state);
		if (result == 0)
			result = put(handle->pins, &state, mode, program->fd);
		if (result < 0)
			refused(&err, &state, mode, result);
	}
	handle_put(handle);
	return result;
}

EXPORT int ptl_xdp_detach(const char *pins, const void *ifindexes, uint32_t count, char *text, uint32_t text_size)
{
	int removed = 0;

	error_begin(text, text_size);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t ifindex;

		memcpy(&ifindex, (const uint8_t *)ifindexes + i * 4, 4);
		removed += xdp_remove(pins, ifindex);
	}
	return removed;
}

EXPORT int ptl_xdp_states(const void *ifindexes, uint32_t count, void *states, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);

	for (uint32_t i = 0; i < count; i++) {
		struct ptl_xdp_state state;
		uint32_t ifindex;

		memcpy(&ifindex, (const uint8_t *)ifindexes + i * 4, 4);
		int result = read_state(ifindex, &state);

		if (result < 0 && result != -ENODEV)
			return fail(&err, result, PTL_E_KERNEL, "xdp_states", "links", "Cannot look at the XDP hook of ifindex %u: %s", ifindex,
				    strerror(-result));
		memcpy((uint8_t *)states + (size_t)i * sizeof(state), &state, sizeof(state));
	}
	return 0;
}
