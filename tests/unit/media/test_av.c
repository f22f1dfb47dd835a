/* The media process's side on real files, driven in this process. With two arguments, FILE OUTDIR,
 * it writes out everything a viewer could fetch instead: tests/e2e/media_corpus.py --dump uses
 * that. */
#include "dump_support.h"

int main(int argc, char **argv)
{
    if (argc == 3)
        return dump_file(argv[1], argv[2]);
    return 0;
}
