// The `summary` command: Keras' table of layers, then what a step computes and what it keeps in
// memory.
//
//   Model: "classifier"
//   ┏━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━┳━━━━━━━━━━┓
//   ┃ Layer (type)   ┃ Output Shape   ┃  Param # ┃
//   ┡━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━╇━━━━━━━━━━┩
//   │ dense (Dense)  │ (None, 300)    │  235,500 │
//   └────────────────┴────────────────┴──────────┘
//    Total params: 235,500 (919.92 KB)
#ifndef NNC_RUNTIME_SUMMARY_H
#define NNC_RUNTIME_SUMMARY_H

#include "runtime/session.h"

namespace rt {

// `nested` also lists layers inside layers.
void print_summary(const Session &session, bool nested);

} // namespace rt

#endif
