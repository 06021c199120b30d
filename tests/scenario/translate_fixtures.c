/* Writes every recorded answer as every other format has it, streamed and whole, for the official SDKs to read (fixtures_sdk).
 *
 *   translate_fixtures FOLDER [COLLECTION ...]
 *
 * FOLDER/N are the bytes of case N; standard output has one line of JSON for each:
 * {"case":N,"to":"gemini","streamed":true,"type":"text/event-stream","source":{an entry of index.json}} */
#include "fixture.h"
#include "parse/put.h"

#include <stdio.h>
#include <string.h>

static const struct codec *const formats[] = {
    &codec_openai_chat, &codec_openai_responses, &codec_anthropic,
    &codec_gemini,      &codec_bedrock_converse, &codec_ollama,
};

struct work {
    const char *folder;
    struct buf line;
    unsigned count;
    bool failed;
};

static pd_err write_bytes(struct work *w, struct span bytes)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%u", w->folder, w->count);
    FILE *out = fopen(path, "wb");
    if (!out)
        return PD_IO;
    bool written = fwrite(bytes.p, 1, bytes.n, out) == bytes.n;
    return fclose(out) == 0 && written ? PD_OK : PD_IO;
}

static pd_err write_line(struct work *w, const struct fixture *f, const struct codec *to, bool streamed)
{
    struct put p = put_into(&w->line);
    buf_clear(&w->line);
    put_printf(&p, "{\"case\":%u,\"to\":\"%s\",\"streamed\":%s,\"type\":\"%s\",\"source\":", w->count, to->name,
               streamed ? "true" : "false", streamed ? to->stream_type : "application/json");
    put_one_line(&p, f->entry.raw);
    put_text(&p, "}\n");
    if (p.err)
        return p.err;
    struct span line = buf_span(&w->line);
    return fwrite(line.p, 1, line.n, stdout) == line.n ? PD_OK : PD_IO;
}

static pd_err write_case(struct work *w, struct fixture *f, const struct codec *to, bool streamed)
{
    struct buf bytes;
    enum answer_end end;
    buf_init(&bytes, 0);
    pd_err e = fixture_encode(f, to, streamed, &bytes, &end);
    if (!e && end == ANSWER_COMPLETE) {
        w->count++;
        e = write_bytes(w, buf_span(&bytes));
        if (!e)
            e = write_line(w, f, to, streamed);
    }
    buf_done(&bytes);
    return e;
}

static void write_cases(void *ctx, struct fixture *f)
{
    struct work *w = ctx;
    for (size_t i = 0; f->codec && f->codec->kind == CODEC_CHAT && i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (formats[i] == f->codec)
            continue;
        pd_err e = write_case(w, f, formats[i], true);
        if (!e)
            e = write_case(w, f, formats[i], false);
        if (!e)
            continue;
        fprintf(stderr, "%s as %s: %s\n", f->file, formats[i]->name, pd_err_text(e));
        w->failed = true;
    }
}

int main(int argc, char **argv)
{
    struct work w = {.folder = argc > 1 ? argv[1] : NULL};
    if (argc < 3) {
        fprintf(stderr, "translate_fixtures FOLDER COLLECTION ...\n");
        return 2;
    }
    buf_init(&w.line, 0);
    for (int i = 2; i < argc; i++) {
        pd_err e = fixtures_each(argv[i], write_cases, &w);
        if (!e)
            continue;
        fprintf(stderr, "%s: %s\n", argv[i], pd_err_text(e));
        w.failed = true;
    }
    buf_done(&w.line);
    return w.failed || fflush(stdout) != 0;
}
