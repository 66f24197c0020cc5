// Picks the command: see docs/binary.md.
#include "runtime/app.h"

#include "runtime/cpu.h"
#include "runtime/profile.h"
#include "runtime/session.h"
#include "runtime/summary.h"

#include <errno.h>
#include <stdio.h>

namespace rt {

static void print_about(const Session &s) {
  Json blocks = s.metadata.get("blocks"), first = blocks.count() ? blocks[0] : s.metadata;
  const NncModel &m = *s.model;
  printf("model    %s\nsource   %s\ntarget   %s%s\ntuning   %s\nseed     %lld\nruntime  interface "
         "%d\n",
         s.name, s.metadata.text("source", "?"), m.target,
         m.version_count > 1 ? text(" (of %s)", version_names(m)) : "",
         s.metadata.text("tuning", "none"),
         static_cast<long long>(first.get("train").integer("seed", 0)), NNC_ABI_VERSION);
  Builder names;
  for (Json block : blocks) names.add("%s%s", names.length() ? ", " : "", block.text("name", "?"));
  if (names.length()) printf("trains   %s\n", names.c_str());
}

int run_app(const NncModel &model, int argc, char **argv) {
  Session session = make_session(model, parse_options(argc, argv));
  int code = 0;
  if (session.options.help) {
    print_help(argv[0], session.name);
  } else if (session.options.about) {
    print_about(session);
  } else {
    if (session.options.command != Command::Summary) require_cpu(*session.model);
    // Training selects its blocks itself, one after the other.
    if (session.options.command != Command::Train) select_block(session, chosen_blocks(session)[0]);
    switch (session.options.command) {
    case Command::Train: code = train(session); break;
    case Command::Evaluate: code = evaluate(session); break;
    case Command::Predict: code = predict(session); break;
    case Command::Summary: print_summary(session, session.options.verbose > 1); break;
    case Command::Bench: code = bench(session); break;
    }
    if (const Profile *profile = session.program.profile)
      finish_profile(*profile, session.name, session.metadata.text("source", "model"),
                     session.options.profile_file);
  }
  if (fflush(stdout) != 0) fail("cannot write to standard output: %s", strerror(errno));
  return code;
}

} // namespace rt
