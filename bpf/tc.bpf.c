// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
#include <linux/bpf.h>
#include "maps.bpf.h"
const volatile struct ptl_config config = {};
SEC("tc") int ptl_pod_in(struct __sk_buff *skb) { return -1; }
SEC("tc") int ptl_pod_out(struct __sk_buff *skb) { return -1; }
SEC("tc") int ptl_net_in(struct __sk_buff *skb) { return -1; }
SEC("tc") int ptl_net_out(struct __sk_buff *skb) { return -1; }
char _license[] SEC("license") = "Dual BSD/GPL";
