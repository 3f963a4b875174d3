/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flows that the kernel's conntrack translates, over ctnetlink: kube-proxy's, when an agent takes a node over, and ours, when
 * it is given back. Only the default zone is looked at: kube-proxy uses no other.
 */
#include <arpa/inet.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "abi.h"
#include "internal.h"

#define CT_NEW ((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW)
#define CT_GET ((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET)
#define CT_DELETE ((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE)
#define DUMP_ATTEMPTS 4
#define CREATE_ATTEMPTS 4
#define TYPE(attribute) ((attribute)->nla_type & NLA_TYPE_MASK)

#ifndef IP_CT_TCP_FLAG_BE_LIBERAL
#define IP_CT_TCP_FLAG_BE_LIBERAL 0x08
#endif

/* ---- reading ---- */

static const void *payload(const struct nlattr *attribute)
{
	return (const uint8_t *)attribute + NLA_HDRLEN;
}

static size_t payload_size(const struct nlattr *attribute)
{
	return attribute->nla_len - NLA_HDRLEN;
}

/* The attribute at *at, which moves on to the next; NULL at the end. */
static const struct nlattr *next_attribute(const uint8_t **at, const uint8_t *end)
{
	const struct nlattr *attribute = (const void *)*at;

	if (end - *at < NLA_HDRLEN || attribute->nla_len < NLA_HDRLEN || attribute->nla_len > end - *at)
		return NULL;
	*at += NLA_ALIGN(attribute->nla_len);
	if (*at > end)
		*at = end;
	return attribute;
}

#define FOR_EACH_INSIDE(child, parent)                                                                        \
	for (const uint8_t *at_##child = payload(parent), *end_##child = at_##child + payload_size(parent); \
	     ((child) = next_attribute(&at_##child, end_##child));)

static void copy(void *out, size_t size, const struct nlattr *attribute)
{
	if (payload_size(attribute) >= size)
		memcpy(out, payload(attribute), size);
}

struct tuple {
	uint8_t src[16];
	uint8_t dst[16];
	__be16 sport;
	__be16 dport;
	uint8_t protocol;
};

static void read_tuple(struct tuple *tuple, const struct nlattr *from)
{
	const struct nlattr *part, *leaf;

	FOR_EACH_INSIDE(part, from) {
		FOR_EACH_INSIDE(leaf, part) {
			if (TYPE(part) == CTA_TUPLE_IP) {
				switch (TYPE(leaf)) {
				case CTA_IP_V4_SRC: copy(tuple->src, 4, leaf); break;
				case CTA_IP_V4_DST: copy(tuple->dst, 4, leaf); break;
				case CTA_IP_V6_SRC: copy(tuple->src, 16, leaf); break;
				case CTA_IP_V6_DST: copy(tuple->dst, 16, leaf); break;
				}
			} else if (TYPE(part) == CTA_TUPLE_PROTO) {
				switch (TYPE(leaf)) {
				case CTA_PROTO_NUM: copy(&tuple->protocol, 1, leaf); break;
				case CTA_PROTO_SRC_PORT: copy(&tuple->sport, 2, leaf); break;
				case CTA_PROTO_DST_PORT: copy(&tuple->dport, 2, leaf); break;
				}
			}
		}
	}
}

static void read_tcp_state(struct ptl_tracked *flow, const struct nlattr *info)
{
	const struct nlattr *protocol, *leaf;

	FOR_EACH_INSIDE(protocol, info)
		if (TYPE(protocol) == CTA_PROTOINFO_TCP)
			FOR_EACH_INSIDE(leaf, protocol)
				if (TYPE(leaf) == CTA_PROTOINFO_TCP_STATE)
					copy(&flow->tcp_state, 1, leaf);
}

/* One entry of the kernel's table. False: it is in a zone of its own. */
static bool read_flow(struct ptl_tracked *flow, const struct nlmsghdr *message)
{
	const struct nfgenmsg *header = NLMSG_DATA(message);
	const uint8_t *at = (const uint8_t *)message + NLMSG_LENGTH(sizeof(*header));
	const uint8_t *end = (const uint8_t *)message + message->nlmsg_len;
	struct tuple original = {}, reply = {};
	const struct nlattr *attribute;
	uint32_t number;

	*flow = (struct ptl_tracked){ .family = header->nfgen_family == AF_INET ? 4 : 6 };
	while ((attribute = next_attribute(&at, end))) {
		number = 0;
		switch (TYPE(attribute)) {
		case CTA_TUPLE_ORIG: read_tuple(&original, attribute); break;
		case CTA_TUPLE_REPLY: read_tuple(&reply, attribute); break;
		case CTA_STATUS: copy(&number, 4, attribute); flow->status = ntohl(number); break;
		case CTA_TIMEOUT: copy(&number, 4, attribute); flow->timeout = ntohl(number); break;
		case CTA_PROTOINFO: read_tcp_state(flow, attribute); break;
		case CTA_ZONE: return false;
		}
	}
	flow->protocol = original.protocol;
	flow->sport = original.sport;
	flow->dport = original.dport;
	flow->reply_sport = reply.sport;
	flow->reply_dport = reply.dport;
	memcpy(flow->src, original.src, 16);
	memcpy(flow->dst, original.dst, 16);
	memcpy(flow->reply_src, reply.src, 16);
	memcpy(flow->reply_dst, reply.dst, 16);
	return true;
}

struct dump {
	uint8_t protocol;
	uint32_t status;
	struct ptl_tracked *out;
	uint32_t capacity;
	uint32_t count;
};

static int visit_flow(const void *data, void *context)
{
	const struct nlmsghdr *message = data;
	struct dump *dump = context;
	struct ptl_tracked flow;

	if (message->nlmsg_type == NLMSG_DONE) { /* it carries the errno of a dump that failed */
		int status = 0;

		if (message->nlmsg_len >= NLMSG_LENGTH(sizeof(status)))
			memcpy(&status, NLMSG_DATA(message), sizeof(status));
		return status < 0 ? status : 0;
	}
	if (message->nlmsg_type != CT_NEW || message->nlmsg_len < NLMSG_LENGTH(sizeof(struct nfgenmsg)))
		return 0;
	if (!read_flow(&flow, message) || flow.protocol != dump->protocol || (flow.status & dump->status) != dump->status)
		return 0;
	if (dump->count < dump->capacity)
		memcpy(&dump->out[dump->count], &flow, sizeof(flow));
	dump->count++;
	return 0;
}

/* ---- writing ---- */

/* A request under construction. 1,024 bytes hold every one of ours several times over. */
struct request {
	struct nlmsghdr header;
	struct nfgenmsg message;
	uint8_t attributes[1024];
};

static void request_begin(struct request *request, uint16_t type, uint16_t flags, uint8_t family)
{
	memset(request, 0, sizeof(*request));
	request->header = (struct nlmsghdr){ .nlmsg_len = NLMSG_LENGTH(sizeof(request->message)), .nlmsg_type = type,
					     .nlmsg_flags = NLM_F_REQUEST | flags };
	request->message = (struct nfgenmsg){ .nfgen_family = family == 4 ? AF_INET : AF_INET6, .version = NFNETLINK_V0 };
}

static struct nlattr *put(struct request *request, uint16_t type, const void *data, size_t size)
{
	struct nlattr *attribute = (void *)((uint8_t *)request + request->header.nlmsg_len);

	attribute->nla_type = type;
	attribute->nla_len = (uint16_t)(NLA_HDRLEN + size);
	if (size)
		memcpy((uint8_t *)attribute + NLA_HDRLEN, data, size);
	request->header.nlmsg_len += NLA_ALIGN(attribute->nla_len);
	return attribute;
}

static struct nlattr *nest(struct request *request, uint16_t type)
{
	return put(request, type | NLA_F_NESTED, NULL, 0);
}

static void end(struct request *request, struct nlattr *nested)
{
	nested->nla_len = (uint16_t)((uint8_t *)request + request->header.nlmsg_len - (uint8_t *)nested);
}

static void put_u32(struct request *request, uint16_t type, uint32_t value)
{
	uint32_t number = htonl(value);

	put(request, type, &number, sizeof(number));
}

static void put_tuple(struct request *request, uint16_t type, uint8_t family, const struct tuple *tuple)
{
	struct nlattr *whole = nest(request, type), *part = nest(request, CTA_TUPLE_IP);
	size_t size = family == 4 ? 4 : 16;

	put(request, family == 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, tuple->src, size);
	put(request, family == 4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, tuple->dst, size);
	end(request, part);
	part = nest(request, CTA_TUPLE_PROTO);
	put(request, CTA_PROTO_NUM, &tuple->protocol, 1);
	put(request, CTA_PROTO_SRC_PORT, &tuple->sport, 2);
	put(request, CTA_PROTO_DST_PORT, &tuple->dport, 2);
	end(request, part);
	end(request, whole);
}

static struct tuple original_of(const struct ptl_tracked *flow)
{
	struct tuple tuple = { .sport = flow->sport, .dport = flow->dport, .protocol = flow->protocol };

	memcpy(tuple.src, flow->src, 16);
	memcpy(tuple.dst, flow->dst, 16);
	return tuple;
}

static struct tuple inverse(const struct tuple *tuple)
{
	struct tuple out = { .sport = tuple->dport, .dport = tuple->sport, .protocol = tuple->protocol };

	memcpy(out.src, tuple->dst, 16);
	memcpy(out.dst, tuple->src, 16);
	return out;
}

/* The client's packets behind the translation: what the replies are the inverse of. */
static struct tuple translated_of(const struct ptl_tracked *flow)
{
	struct tuple reply = { .sport = flow->reply_sport, .dport = flow->reply_dport, .protocol = flow->protocol };

	memcpy(reply.src, flow->reply_src, 16);
	memcpy(reply.dst, flow->reply_dst, 16);
	return inverse(&reply);
}

/* 1: deleted, 0: there is none, or -errno. */
static int delete_tuple(uint8_t family, const struct tuple *tuple)
{
	struct request request;

	request_begin(&request, CT_DELETE, 0, family);
	put_tuple(&request, CTA_TUPLE_ORIG, family, tuple);
	int result = netlink_request_to(NETLINK_NETFILTER, &request, request.header.nlmsg_len);

	return result == 0 ? 1 : result == -ENOENT ? 0 : result;
}

static void put_nat(struct request *request, uint16_t type, uint8_t family, const uint8_t *address, __be16 port)
{
	struct nlattr *whole = nest(request, type), *ports;
	size_t size = family == 4 ? 4 : 16;

	put(request, family == 4 ? CTA_NAT_V4_MINIP : CTA_NAT_V6_MINIP, address, size);
	put(request, family == 4 ? CTA_NAT_V4_MAXIP : CTA_NAT_V6_MAXIP, address, size);
	ports = nest(request, CTA_NAT_PROTO);
	put(request, CTA_PROTONAT_PORT_MIN, &port, 2);
	put(request, CTA_PROTONAT_PORT_MAX, &port, 2);
	end(request, ports);
	end(request, whole);
}

/* The connection has been seen by nobody who could know its window: the kernel must not judge by it. */
static void put_tcp(struct request *request, uint8_t state)
{
	struct nf_ct_tcp_flags liberal = { IP_CT_TCP_FLAG_BE_LIBERAL, IP_CT_TCP_FLAG_BE_LIBERAL };
	struct nlattr *whole = nest(request, CTA_PROTOINFO), *tcp = nest(request, CTA_PROTOINFO_TCP);

	put(request, CTA_PROTOINFO_TCP_STATE, &state, 1);
	put(request, CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, &liberal, sizeof(liberal));
	put(request, CTA_PROTOINFO_TCP_FLAGS_REPLY, &liberal, sizeof(liberal));
	end(request, tcp);
	end(request, whole);
}

static int create_one(const struct ptl_tracked *flow)
{
	struct tuple original = original_of(flow), reply = inverse(&original), translated = translated_of(flow);
	struct request request;

	/* The reply tuple is given as it is without translation: the kernel works the real one out of the two below. */
	request_begin(&request, CT_NEW, NLM_F_CREATE | NLM_F_EXCL, flow->family);
	put_tuple(&request, CTA_TUPLE_ORIG, flow->family, &original);
	put_tuple(&request, CTA_TUPLE_REPLY, flow->family, &reply);
	/* CONFIRMED is what the kernel gives it anyway; a status without is EBUSY. */
	put_u32(&request, CTA_STATUS, (flow->status & (IPS_SEEN_REPLY | IPS_ASSURED)) | IPS_CONFIRMED);
	put_u32(&request, CTA_TIMEOUT, flow->timeout);
	if (memcmp(original.dst, translated.dst, 16) || original.dport != translated.dport)
		put_nat(&request, CTA_NAT_DST, flow->family, translated.dst, translated.dport);
	if (memcmp(original.src, translated.src, 16) || original.sport != translated.sport)
		put_nat(&request, CTA_NAT_SRC, flow->family, translated.src, translated.sport);
	if (flow->protocol == IPPROTO_TCP)
		put_tcp(&request, flow->tcp_state);
	return netlink_request_to(NETLINK_NETFILTER, &request, request.header.nlmsg_len);
}

/*
 * What passed translated was tracked without translation, or with a masquerade of the host's own, and its replies' tuple is the
 * one that the new entry needs: it goes first. A packet between the two may bring it back.
 */
static int create_flow(const struct ptl_tracked *flow)
{
	struct tuple translated = translated_of(flow), original = original_of(flow), passed = original;
	int result = -EEXIST;

	memcpy(passed.dst, translated.dst, 16);
	passed.dport = translated.dport;
	for (int i = 0; i < CREATE_ATTEMPTS && (result == -EEXIST || result == -EBUSY); i++) {
		if (memcmp(&passed, &original, sizeof(original)))
			delete_tuple(flow->family, &passed);
		if (memcmp(&translated, &passed, sizeof(passed)) && memcmp(&translated, &original, sizeof(original)))
			delete_tuple(flow->family, &translated);
		if (i > 0)
			delete_tuple(flow->family, &original);
		result = create_one(flow);
	}
	return result < 0 ? result : 1;
}

/* ---- exported ---- */

EXPORT int ptl_tracked_dump(uint32_t protocol, uint32_t status, void *out, uint32_t capacity, char *text,
			    uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct dump dump = { .protocol = (uint8_t)protocol, .status = status, .out = out, .capacity = capacity };
	struct request request;
	int result = -EINTR;

	request_begin(&request, CT_GET, NLM_F_DUMP, 4);
	request.message.nfgen_family = AF_UNSPEC;
	if (status) {
		put_u32(&request, CTA_STATUS, status);
		put_u32(&request, CTA_STATUS_MASK, status); /* older kernels do not know it, and send all */
	}
	for (int i = 0; i < DUMP_ATTEMPTS && result == -EINTR; i++) {
		dump.count = 0;
		result = netlink_dump_of(NETLINK_NETFILTER, &request, request.header.nlmsg_len, visit_flow, &dump);
	}
	/* Always interrupted: a part is better than nothing (9.9). */
	if (result < 0 && result != -EINTR)
		return fail(&err, result, PTL_E_KERNEL, "tracked_dump", "conntrack", "Cannot list the tracked flows: %s",
			    strerror(-result));
	return (int)dump.count;
}

static int for_each_flow(const void *flows, uint32_t count, void *result_out, int (*act)(const struct ptl_tracked *flow))
{
	struct ptl_tracked_result result = {};

	for (uint32_t i = 0; i < count; i++) {
		struct ptl_tracked flow;

		memcpy(&flow, (const uint8_t *)flows + (size_t)i * sizeof(flow), sizeof(flow));
		int status = act(&flow);

		if (status >= 0) {
			result.done += (uint32_t)status;
		} else {
			if (result.failed++ == 0)
				result.error = (uint32_t)-status;
		}
	}
	memcpy(result_out, &result, sizeof(result));
	return 0;
}

static int delete_flow(const struct ptl_tracked *flow)
{
	struct tuple original = original_of(flow);

	return delete_tuple(flow->family, &original);
}

EXPORT int ptl_tracked_delete(const void *flows, uint32_t count, void *result, char *text, uint32_t text_size)
{
	error_begin(text, text_size);
	return for_each_flow(flows, count, result, delete_flow);
}

EXPORT int ptl_tracked_create(const void *flows, uint32_t count, void *result, char *text, uint32_t text_size)
{
	error_begin(text, text_size);
	return for_each_flow(flows, count, result, create_flow);
}

#define SEAL(F)                                                                                                             \
	for (uint32_t i = 0; i < count; i++) {                                                                              \
		uint8_t *value = (uint8_t *)values + (size_t)i * sizeof(struct nat_value##F);                               \
		uint32_t words[sizeof(struct nat_key##F) / 4], covered[offsetof(struct nat_value##F, check) / 4], check; \
                                                                                                                            \
		memcpy(words, (const uint8_t *)keys + (size_t)i * sizeof(struct nat_key##F), sizeof(words));                \
		memcpy(covered, value, sizeof(covered));                                                                    \
		check = ptl_nat_check(words, sizeof(words) / 4, covered, sizeof(covered) / 4);                              \
		memcpy(value + offsetof(struct nat_value##F, check), &check, sizeof(check));                                \
	}

EXPORT int ptl_nat_seal(uint32_t family, const void *keys, void *values, uint32_t count)
{
	if (family == 4) {
		SEAL(4)
	} else {
		SEAL(6)
	}
	return 0;
}
