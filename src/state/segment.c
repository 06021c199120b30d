/* Names and hashes of the journal's files. */
#include "base/hash.h"
#include "base/mem.h"
#include "state/journal_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

enum { SEGMENTS_FIRST = 16, SEGMENTS_MOST = 65536 };

uint64_t segment_head_hash(const struct segment_head *h)
{
    return hash_bytes(span_of((const char *)h, offsetof(struct segment_head, hash)), 0);
}

uint64_t record_head_hash(const struct record_head *h, uint64_t seed)
{
    return hash_bytes(span_of((const char *)h, offsetof(struct record_head, hash)), seed);
}

uint32_t record_payload_hash(struct span payload, uint64_t seed)
{
    return (uint32_t)hash_bytes(span_of(payload.p ? payload.p : "", payload.n), seed + 1);
}

void segment_name_write(const struct segment_name *s, char *out)
{
    snprintf(out, SEGMENT_NAME_BYTES, "journal-%016" PRIx64 "-%" PRIu32 "-%06" PRIu32 ".log", s->began_us, s->pid,
             s->number);
}

bool segment_name_read(const char *text, struct segment_name *ret)
{
    char again[SEGMENT_NAME_BYTES];
    static const char front[] = "journal-";
    if (strncmp(text, front, sizeof(front) - 1) != 0)
        return false;
    char *at;
    struct segment_name s = {.began_us = strtoull(text + sizeof(front) - 1, &at, 16)};
    if (*at == '-')
        s.pid = (uint32_t)strtoul(at + 1, &at, 10);
    if (*at == '-')
        s.number = (uint32_t)strtoul(at + 1, &at, 10);
    segment_name_write(&s, again); /* anything else than a name of ours differs from it */
    if (strcmp(again, text) != 0)
        return false;
    *ret = s;
    return true;
}

static int by_age(const void *va, const void *vb)
{
    const struct segment_name *a = va, *b = vb;
    if (a->began_us != b->began_us)
        return a->began_us < b->began_us ? -1 : 1;
    if (a->pid != b->pid)
        return a->pid < b->pid ? -1 : 1;
    return (a->number > b->number) - (a->number < b->number);
}

static pd_err add(struct segment_name **list, unsigned *count, unsigned *room, const struct segment_name *s)
{
    if (*count == *room) {
        unsigned more = *room ? *room * 2 : SEGMENTS_FIRST;
        struct segment_name *grown = more <= SEGMENTS_MOST ? mem_realloc(*list, more * sizeof(**list)) : NULL;
        if (!grown)
            return PD_NOMEM;
        *list = grown;
        *room = more;
    }
    (*list)[(*count)++] = *s;
    return PD_OK;
}

pd_err segments_list(const char *folder, struct segment_name **ret, unsigned *ret_count)
{
    DIR *d = opendir(folder);
    if (!d)
        return errno == ENOENT ? PD_NOTFOUND : errno == EMFILE || errno == ENFILE ? PD_NOFD : PD_IO;
    struct segment_name *list = NULL, s;
    unsigned count = 0, room = 0;
    pd_err e = PD_OK;
    for (struct dirent *entry; !e && (entry = readdir(d)) != NULL;)
        if (segment_name_read(entry->d_name, &s))
            e = add(&list, &count, &room, &s);
    closedir(d);
    if (e) {
        mem_free(list);
        return e;
    }
    if (count)
        qsort(list, count, sizeof(*list), by_age);
    *ret = list;
    *ret_count = count;
    return PD_OK;
}

pd_err segment_path(const char *folder, const struct segment_name *s, char *out)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name_write(s, name);
    return folder_path(folder, name, out);
}

bool segment_is_held(const char *folder, const struct segment_name *s)
{
    char path[FOLDER_PATH_MAX];
    int fd = segment_path(folder, s, path) == PD_OK ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return false;
    bool held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    return held;
}
