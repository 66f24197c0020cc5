#include "codegen/cpu/emitter.h"
namespace nnc::cg {
void Emitter::emitScatter() {}
}
