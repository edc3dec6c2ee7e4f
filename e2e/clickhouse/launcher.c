// Runs the ClickHouse that is inside libchdb.so as a server process.
//
// The library is `clickhouse local` with a C entry point. A query that starts
// the listeners and then sleeps for ever makes a server of it; SIGTERM ends it.
//
//   clickhouse-server --config-file=FILE --path=FOLDER [--NAME=VALUE...]
//
// libchdb.so is looked up beside this program.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// Starts HTTP and native listeners, then sleeps in steps short enough for a
// stop to be noticed. Without the limits the sleep would end by itself.
static char serve[] =
    "--query=SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP; "
    "SELECT sleepEachRow(1) FROM system.numbers "
    "SETTINGS max_block_size = 1, max_threads = 1, max_execution_time = 0, "
    "function_sleep_max_microseconds_per_block = 1100000 FORMAT Null";

typedef void *(*query_function)(int argc, char **argv);
typedef const char *(*error_function)(void *result);

static void *need(void *library, const char *name) {
  void *symbol = dlsym(library, name);
  if (symbol == NULL) {
    fprintf(stderr, "clickhouse-server: %s\n", dlerror());
    exit(127);
  }
  return symbol;
}

int main(int argc, char **argv) {
  void *library = dlopen("libchdb.so", RTLD_NOW | RTLD_GLOBAL);
  if (library == NULL) {
    fprintf(stderr, "clickhouse-server: %s\n", dlerror());
    return 127;
  }
  query_function query = (query_function)need(library, "chdb_query_cmdline");
  error_function error = (error_function)need(library, "chdb_result_error");

  char **arguments = calloc((size_t)argc + 2, sizeof *arguments);
  if (arguments == NULL) return 127;
  arguments[0] = "clickhouse";
  for (int i = 1; i < argc; i++) arguments[i] = argv[i];
  arguments[argc] = serve;

  // The call returns a result, not an exit code: an error would be silent.
  void *result = query(argc + 1, arguments);
  const char *message = result == NULL ? "no result" : error(result);
  if (message != NULL && *message != '\0') {
    fprintf(stderr, "clickhouse-server: %s\n", message);
    _exit(1);
  }
  // Not exit(): the library's own destructors are not safe to run here.
  _exit(0);
}
