/* StreamGate: subcommands. */
#include <stdio.h>
#include <string.h>

#include "streamgate/media/media.h"

#include "cli.h"
#include "daemon.h"
#include "options.h"

static const char usage[] =
    "StreamGate " SG_VERSION ": a self-hosted media server\n"
    "\n"
    "  streamgate serve [--config FILE] [--data-dir DIR] [--listen ADDR:PORT] [--set KEY=VALUE "
    "...]\n"
    "  streamgate check-config [--config FILE] [--set KEY=VALUE ...]\n"
    "  streamgate key create --role admin|creator|viewer --name NAME [--user USER]\n"
    "  streamgate key list | key revoke ID\n"
    "  streamgate audit verify | audit export\n"
    "  streamgate openapi | docs config|sample|metrics|errors|api\n"
    "  streamgate --version | --help\n"
    "\n"
    "Settings are documented in docs/CONFIG.md; each is also STREAMGATE_SECTION_KEY in the\n"
    "environment. All subcommands take --config, --data-dir and --set.\n";

static int dispatch(const struct options *o)
{
    const char *verb = o->n_words > 0 ? o->words[0] : "";
    if (strcmp(verb, "serve") == 0)
        return daemon_run(o);
    if (strcmp(verb, "check-config") == 0)
        return cli_check_config(o);
    if (strcmp(verb, "key") == 0)
        return cli_key(o);
    if (strcmp(verb, "audit") == 0)
        return cli_audit(o);
    if (strcmp(verb, "openapi") == 0)
        return cli_openapi();
    if (strcmp(verb, "docs") == 0)
        return cli_docs(o);
    if (strcmp(verb, "--version") == 0) {
        puts("streamgate " SG_VERSION);
        return 0;
    }
    if (strcmp(verb, "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    fputs(usage, stderr);
    return 2;
}

int main(int argc, char **argv)
{
    /* Before anything else runs: the sandboxed role shares nothing with the daemon's. */
    if (argc >= 2 && strcmp(argv[1], "media-worker") == 0)
        return sg_media_worker_main();
    struct options o;
    int status = options_parse(argc, argv, &o) == SG_OK ? dispatch(&o) : 2;
    options_free(&o);
    /* An export cut short by a full disk must not pass for a whole one, nor a key nobody saw for
     * one that was made known. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == 0) {
        fputs("streamgate: the output could not be written\n", stderr);
        status = 1;
    }
    return status;
}
