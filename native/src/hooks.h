/* SPDX-License-Identifier: Apache-2.0 */
/* What attaching, listing and cleaning up share. */
#ifndef PTL_HOOKS_H
#define PTL_HOOKS_H

#include <stdio.h>

#include "internal.h"

#define MAX_AT_HOOK 64

static inline const char *direction_name(bool out)
{
	return out ? "out" : "in";
}

static inline void link_path(char path[512], const char *pins, uint32_t ifindex, const char *suffix)
{
	snprintf(path, 512, "%s/links/%u-%s", pins, ifindex, suffix);
}

/* attach.c */
int make_links_directory(struct error *err, const char *pins);

/* sockets.c */
/* Takes every socket program off, with its pin. Returns how many. */
int sockets_remove(const char *pins);

/* attachments.c */
struct program_info {
	char name[16];
	uint8_t tag[8];
};
/* 0, or -errno: then `out` is all zero. */
int program_info(uint32_t id, struct program_info *out);
bool is_ours(uint32_t program_id);

/* link.c: each closes `link`. 0, or -errno. */
int link_replace(int link, int program_fd);
int link_pin(int link, const char *path);
/* Takes the program of the pinned link off, with the pin. Returns how many programs were taken off. */
int link_remove(const char *pins, uint32_t ifindex, const char *suffix);

/* tcx_link.c */
/*
 * The pinned link of a hook when it is at this interface of this namespace. -ENOENT: there is no pin, or its interface went
 * and the dead pin was removed. Anything else keeps the pin, for with it a program would go that may be at work: -EXDEV
 * means at an interface of another namespace.
 */
int open_link(const char *path, uint32_t ifindex, bool out);
/* `change` is left alone when nothing of ours is there, neither from before nor from now. */
int tcx_put(const char *pins, uint32_t ifindex, bool out, int program_fd, uint32_t *change);
/* Returns how many programs were taken off. */
int tcx_remove(const char *pins, uint32_t ifindex, bool out);

/* xdp.c */
/* Returns how many programs were taken off. */
int xdp_remove(const char *pins, uint32_t ifindex);
/* Removes the pin of a link whose interface is gone. Returns how many. */
int xdp_sweep(const char *pins, uint32_t ifindex);

/* clsact.c */
/* The qdisc, unless it is there. */
int clsact_ensure(const char *pins, uint32_t ifindex, const char **code);
/* Whether filters of ours are, or were, at this interface. */
bool clsact_known(const char *pins, uint32_t ifindex);
/* Of an interface without filters of ours: the notes, and the qdisc if it is ours. */
void clsact_forget(const char *pins, uint32_t ifindex);
/* Returns how many filters were taken off. */
int clsact_remove(const char *pins, uint32_t ifindex);
/* `change` is left alone when nothing of ours is there, neither from before nor from now. */
int filter_put(uint32_t ifindex, bool out, int program_fd, uint32_t *change, const char **code);
/* 1: taken off, 0: there was none of ours, -errno: it may still be there. */
int filter_remove(uint32_t ifindex, bool out);

#endif
