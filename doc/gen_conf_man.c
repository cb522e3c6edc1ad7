/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Prints the manual page walstream.conf(5). Its options come from the table that the programs read
 * the file with, so that the page tells the names, ranges and defaults that they know.
 */
#include <stdio.h>
#include <string.h>

#include "common/config.h"

static const char man_begin[] =
    ".\\\" SPDX-License-Identifier: PostgreSQL\n"
    ".\\\" Made by doc/gen_conf_man.c from the table in src/common/config.c.\n"
    ".Dd November 21, 2026\n"
    ".Dt WALSTREAM.CONF 5\n"
    ".Os walstream " WALSTREAM_VERSION "\n"
    ".Sh NAME\n"
    ".Nm walstream.conf\n"
    ".Nd configuration of walstream\n"
    ".Sh DESCRIPTION\n"
    "All programs of walstream read one configuration file: the one given with\n"
    ".Fl -config ,\n"
    "otherwise the one that the environment variable\n"
    ".Ev WALSTREAM_CONFIG\n"
    "names, otherwise\n"
    ".Pa /etc/walstream/walstream.conf .\n"
    ".Pp\n"
    "The file has lines of the form\n"
    ".Dq key = value ,\n"
    "in sections that begin with a line\n"
    ".Dq Bq section .\n"
    "Blanks around keys and values do not count.\n"
    "A semicolon or a number sign at the beginning of a line, or behind a\n"
    "blank, begins a comment.\n"
    "Values are not quoted; a value cannot hold a semicolon or a number\n"
    "sign behind a blank.\n"
    "A line is at most 4096 bytes long.\n"
    ".Pp\n"
    "An unknown section or key is an error, and so is a key that is given twice.\n"
    "Only keys said to be repeatable may stand more than once.\n"
    ".Pp\n"
    "Every option can be given on the command line of a program too, as\n"
    ".Fl - Ns Ar section.key=value .\n"
    "The command line beats the file.\n"
    "There all that follows the equals sign is the value, and of a key given twice\n"
    "the last one counts.\n"
    "A repeatable key on the command line replaces all those of the file.\n"
    ".Pp\n"
    "The types of values are:\n"
    ".Bl -tag -width switchxx\n"
    ".It Ar text\n"
    "Any text.\n"
    "If it is not given it is empty, unless another default is told.\n"
    ".It Ar switch\n"
    ".Cm on ,\n"
    ".Cm true ,\n"
    ".Cm yes\n"
    "or\n"
    ".Cm 1 ;\n"
    ".Cm off ,\n"
    ".Cm false ,\n"
    ".Cm no\n"
    "or\n"
    ".Cm 0 .\n"
    ".It Ar number\n"
    "A whole number.\n"
    ".It Ar size\n"
    "A whole number and, without a blank,\n"
    ".Cm B , kB , KiB , MB , MiB , GB , GiB , TB\n"
    "or\n"
    ".Cm TiB .\n"
    "As in PostgreSQL, each is 1024 of the one before.\n"
    "Without a unit: bytes.\n"
    ".It Ar time\n"
    "A whole number and, without a blank,\n"
    ".Cm ms , s , min , h\n"
    "or\n"
    ".Cm d .\n"
    "Without a unit: seconds.\n"
    ".El\n"
    ".Sh OPTIONS\n";

static const char man_end[] = ".Sh ENVIRONMENT\n"
                              ".Bl -tag -width WALSTREAM_CONFIG\n"
                              ".It Ev WALSTREAM_CONFIG\n"
                              "The configuration file, if none is given on the command line.\n"
                              ".El\n"
                              ".Sh FILES\n"
                              ".Bl -tag -width /etc/walstream/walstream.conf\n"
                              ".It Pa /etc/walstream/walstream.conf\n"
                              "The configuration file otherwise.\n"
                              ".El\n"
                              ".Sh EXAMPLES\n"
                              ".Bd -literal\n"
                              "[cluster]\n"
                              "name      = user-service\n"
                              "conninfo  = host=/run/postgresql user=walstream\n"
                              "\n"
                              "[repository]\n"
                              "url       = s3://backups/postgres\n"
                              "region    = eu-central-1\n"
                              "\n"
                              "[encryption]\n"
                              "recipient = age1...    ; the key on the host that restores\n"
                              "\n"
                              "[stream]\n"
                              "memory    = 128MiB\n"
                              ".Ed\n"
                              ".Sh SEE ALSO\n"
                              ".Xr walctl 1 ,\n"
                              ".Xr walfetch 1 ,\n"
                              ".Xr walpush 1 ,\n"
                              ".Xr walstream 1\n";

/* Text that stands on lines of its own: a sentence begins one, and nothing that mdoc would take. */
static void
man_print_text(const char *text)
{
    size_t used = 0;

    while (*text != '\0')
    {
        size_t word = strcspn(text, " ");

        if (used == 0 && (*text == '.' || *text == '\''))
            (void) fputs("\\&", stdout);
        for (size_t i = 0; i < word; i++)
        {
            if (text[i] == '\\')
                (void) fputs("\\e", stdout);
            else
                (void) putchar(text[i]);
        }
        used += word + 1;

        bool sentence_ends = word > 0 && text[word - 1] == '.';

        text += word + strspn(text + word, " ");

        bool line_ends = *text == '\0' || sentence_ends || used + strcspn(text, " ") > 79;

        (void) putchar(line_ends ? '\n' : ' ');
        if (line_ends)
            used = 0;
    }
}

static const char *
man_type_name(ConfigType type)
{
    switch (type)
    {
        case CONFIG_TEXT:
        case CONFIG_TEXT_LIST:
            return "text";
        case CONFIG_BOOL:
            return "switch";
        case CONFIG_INTEGER:
            return "number";
        case CONFIG_BYTES:
            return "size";
        case CONFIG_DURATION:
            return "time";
        case CONFIG_KEEP:
            return "time or number";
    }
    return "";
}

/* "A, B or C." of words separated by blanks, each as a literal. */
static void
man_print_choices(const char *choices)
{
    (void) printf("One of:\n");
    while (*choices != '\0')
    {
        int word = (int) strcspn(choices, " ");
        const char *next = choices + word + strspn(choices + word, " ");

        (void) printf(".Cm %.*s %s\n", word, choices, *next == '\0' ? "." : ",");
        choices = next;
    }
}

static void
man_print_option(const ConfigOption *opt)
{
    char low[32], high[32];

    (void) printf(".It Cm %s = Ar %s\n", opt->key, man_type_name(opt->type));
    man_print_text(opt->help);
    if (opt->choices != NULL)
        man_print_choices(opt->choices);
    if (opt->type == CONFIG_TEXT_LIST)
        (void) printf("Repeatable, up to %d times.\n", CONFIG_MAX_RECIPIENTS);
    if (opt->min < opt->max)
        (void) printf(
            "From %s to %s.\n", config_format_number(opt->type, opt->min, low, sizeof low),
            config_format_number(opt->type, opt->max, high, sizeof high));
    if (opt->default_text == NULL)
        (void) printf("Required.\n");
    else if (opt->default_text[0] != '\0')
        (void) printf("The default is\n.Ql %s .\n", opt->default_text);
    if (opt->reloadable)
        (void) printf("A running\n.Xr walstream 1\ntakes a change on\n.Dv SIGHUP .\n");
}

int
main(void)
{
    const char *section = NULL;

    (void) fputs(man_begin, stdout);
    for (size_t i = 0; i < config_option_count; i++)
    {
        const ConfigOption *opt = &config_options[i];

        if (section == NULL || strcmp(section, opt->section) != 0)
        {
            if (section != NULL)
                (void) printf(".El\n");
            section = opt->section;
            (void) printf(".Ss Section [%s]\n.Bl -tag -width Ds\n", section);
        }
        man_print_option(opt);
    }
    (void) printf(".El\n");
    (void) fputs(man_end, stdout);
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
