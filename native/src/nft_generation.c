/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the rules of nftables have changed, without reading them: each transaction has a number. */
#include <arpa/inet.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "internal.h"

static int visit(const void *data, void *context)
{
	const struct nlmsghdr *message = data;
	const struct nfgenmsg *header = NLMSG_DATA(message);
	uint32_t *generation = context;
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*header));

	if (message->nlmsg_type != ((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN) || !netlink_has(message, sizeof(*header)))
		return 0;
	for (const struct rtattr *a = (const void *)(header + 1); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if ((a->rta_type & NLA_TYPE_MASK) != NFTA_GEN_ID)
			continue;
		netlink_number(generation, a);
		*generation = ntohl(*generation);
	}
	return 0;
}

EXPORT int ptl_nft_generation(void *out, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct {
		struct nlmsghdr header;
		struct nfgenmsg nfgen;
	} request = {
		.header = {
			.nlmsg_len = sizeof(request),
			.nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		},
		.nfgen = { .nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0 },
	};
	uint32_t generation = 0;
	int result = netlink_dump_of(NETLINK_NETFILTER, &request, sizeof(request), visit, &generation);

	if (result == -EINVAL || result == -EPROTONOSUPPORT || result == -EOPNOTSUPP)
		result = 0; /* this kernel has no nf_tables, or nobody has used it since it started */
	if (result < 0)
		return fail(&err, result, PTL_E_KERNEL, "nft_generation", "nf_tables", "Cannot ask for the number of the rules: %s",
			    strerror(-result));
	memcpy(out, &generation, sizeof(generation));
	return 0;
}
