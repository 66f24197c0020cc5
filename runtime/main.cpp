// The entry point of every training binary. `nnc_model` is what the compiler made.
#include "runtime/app.h"

int main(int argc, char **argv) { return rt::run_app(nnc_model, argc, argv); }
