// A model written by hand, as the compiler would emit it: linear regression trained with momentum.
//
// It lets the runtime be tested without the compiler. Four variants from one text:
//
//   LINE (default)  x f32[n,3], y f32[n]          -> output f32[n]
//   IMAGE           image u8[n,4,4], label i64[n] -> output f32[n,3], one score per class
//   STEPS           as LINE, with epochs of 5 steps, validation data and a wrong monitor
//   HUGE            as LINE, with more weights than any machine has memory
//
//   e = x W + b - y,  g = 2/n x^T e,  v = 0.9 v + g,  W -= lr v,  loss = mean of e^2
//
// In IMAGE the kernel lies transposed in memory, so that files have to be converted.
#include "runtime/abi.h"

#ifdef IMAGE
enum { F = 16, C = 3 };
#else
enum { F = 3, C = 1 };
#endif
enum { N = 8 };

// Persistent, input and transient offsets.
enum { KERNEL = 0, BIAS = 256, KERNEL_V = 512, BIAS_V = 768, RATE = 1024, TOTAL = 1088, COUNT = 1152, SEEN = 1216 };
enum { X = 0, Y = 512 };
enum { E = 0, OUT = 512, LOSS = 1024, RMSE = 1088 };

static float feature(const char *x, int64_t row, int64_t f) {
#ifdef IMAGE
  return (float)((const unsigned char *)x)[row * F + f] / 255.0f;
#else
  return ((const float *)x)[row * F + f];
#endif
}

static float target(const char *y, int64_t row, int64_t c) {
#ifdef IMAGE
  return ((const int64_t *)y)[row] == c ? 1.0f : 0.0f;
#else
  (void)c;
  return ((const float *)y)[row];
#endif
}

// args: kernel, bias, x, y, e. Item: a row.
static void error_rows(char *const *args, const struct NncStepEnv *env, int64_t begin, int64_t end) {
  const float *kernel = (const float *)args[0], *bias = (const float *)args[1];
  (void)env;
  for (int64_t row = begin; row < end; row++)
    for (int64_t c = 0; c < C; c++) {
      float sum = bias[c];
      for (int64_t f = 0; f < F; f++) sum += kernel[c * F + f] * feature(args[2], row, f);
      ((float *)args[4])[row * C + c] = sum - (args[3] ? target(args[3], row, c) : 0.0f);
    }
}

// args: kernel, bias, x, out. Item: a row.
static void predict_rows(char *const *args, const struct NncStepEnv *env, int64_t begin, int64_t end) {
  char *all[] = {args[0], args[1], args[2], 0, args[3]};
  error_rows(all, env, begin, end);
}

// args: kernel, bias, kernel_v, bias_v, rate, x, e. Item: a column of the kernel with its bias.
static void update(char *const *args, const struct NncStepEnv *env, int64_t begin, int64_t end) {
  float rate = *(const float *)args[4], scale = 2.0f / (float)env->n;
  for (int64_t item = begin; item < end; item++) {
    int64_t c = item / (F + 1), f = item % (F + 1);
    float g = 0;
    for (int64_t row = 0; row < env->n; row++)
      g += ((const float *)args[6])[row * C + c] * (f < F ? feature(args[5], row, f) : 1.0f);
    float *w = f < F ? (float *)args[0] + c * F + f : (float *)args[1] + c;
    float *v = f < F ? (float *)args[2] + c * F + f : (float *)args[3] + c;
    *v = 0.9f * *v + g * scale;
    *w -= rate * *v;
  }
}

// args: e, total, count. Single.
static void count_loss(char *const *args, const struct NncStepEnv *env, int64_t begin, int64_t end) {
  (void)begin, (void)end;
  float sum = 0;
  for (int64_t i = 0; i < env->n * C; i++) {
    float e = ((const float *)args[0])[i];
    sum += e * e;
  }
  *(float *)args[1] += sum;
  *(float *)args[2] += (float)env->n;
}

// args: seen. Single: state that is not trained, the number of steps seen.
static void count_step(char *const *args, const struct NncStepEnv *env, int64_t begin, int64_t end) {
  (void)env, (void)begin, (void)end;
  *(int32_t *)args[0] += 1;
}

// args: total, count, loss, rmse. Single.
static void result(char *const *args, const struct NncStepEnv *env, int64_t begin, int64_t end) {
  (void)env, (void)begin, (void)end;
  float loss = *(float *)args[0] / (*(float *)args[1] * C);
  *(float *)args[2] = loss;
  float root = loss > 1 ? loss : 1;
  for (int i = 0; i < 40; i++) root = 0.5f * (root + loss / root);
  *(float *)args[3] = root;
}

// args: kernel, rate. Item: an element of the kernel.
static void init_kernel(char *const *args, const struct NncStepEnv *env, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    uint64_t bits = (env->seed * 1000003 + (uint64_t)i + 1) * 0x9E3779B97F4A7C15;
    ((float *)args[0])[i] = (float)(int64_t)(bits >> 40) / 16777216.0f - 0.5f;
  }
  if (begin == 0) *(float *)args[1] = 0.02f;
}

#define P(o) {o, NNC_PERSISTENT}
#define T(o) {o, NNC_TRANSIENT}
#define I(o) {o, NNC_INPUT}

static const struct NncArg train_args[] = {
    P(KERNEL), P(BIAS), I(X), I(Y), T(E),
    P(KERNEL), P(BIAS), P(KERNEL_V), P(BIAS_V), P(RATE), I(X), T(E),
    T(E), P(TOTAL), P(COUNT), P(SEEN)};
static const struct NncOp train_ops[] = {
    {error_rows, 0, 1, 1, 0, 5, 0, "error_rows", 1},
    {update, C * (F + 1), 0, 1, 5, 7, NNC_OP_BARRIER, "update", 2},
    {count_loss, 1, 0, 1, 12, 3, NNC_OP_SINGLE, "count_loss", 3},
    {count_step, 1, 0, 1, 15, 1, NNC_OP_SINGLE, "count_step", 3}};
static const struct NncArg eval_args[] = {P(KERNEL), P(BIAS), I(X), I(Y), T(E), T(E), P(TOTAL), P(COUNT)};
static const struct NncOp eval_ops[] = {
    {error_rows, 0, 1, 1, 0, 5, 0, "error_rows", 1},
    {count_loss, 1, 0, 1, 5, 3, NNC_OP_SINGLE | NNC_OP_BARRIER, "count_loss", 3}};
static const struct NncArg predict_args[] = {P(KERNEL), P(BIAS), I(X), T(OUT)};
static const struct NncOp predict_ops[] = {{predict_rows, 0, 1, 1, 0, 4, 0, "predict_rows", 1}};
static const struct NncArg result_args[] = {P(TOTAL), P(COUNT), T(LOSS), T(RMSE)};
static const struct NncOp result_ops[] = {{result, 1, 0, 1, 0, 4, NNC_OP_SINGLE, "result", 0}};
static const struct NncArg init_args[] = {P(KERNEL), P(RATE)};
static const struct NncOp init_ops[] = {{init_kernel, F * C, 0, 1, 0, 2, 0, "init_kernel", 0}};

#ifdef IMAGE
static const struct NncDim x_dims[] = {{1, 0}, {0, 4}, {0, 4}}, kernel_dims[] = {{0, F}, {0, C}};
static const struct NncDim out_dims[] = {{1, 0}, {0, C}};
static const struct NncDigit kernel_digits[] = {{1, C}, {0, F}};
static const struct NncTensor inputs[] = {
    {"image", NNC_U8, 3, x_dims, NNC_INPUT, X, N * F, 0, 0, NNC_TENSOR_IO},
    {"label", NNC_I64, 1, x_dims, NNC_INPUT, Y, N * 8, 0, 0, NNC_TENSOR_IO}};
#define KERNEL_LAYOUT kernel_dims, NNC_PERSISTENT
#define KERNEL_DIGITS 2, kernel_digits
enum { KERNEL_RANK = 2, OUT_RANK = 2 };
#else
static const struct NncDim x_dims[] = {{1, 0}, {0, F}}, kernel_dims[] = {{0, F}}, out_dims[] = {{1, 0}};
static const struct NncTensor inputs[] = {
    {"x", NNC_F32, 2, x_dims, NNC_INPUT, X, N * F * 4, 0, 0, NNC_TENSOR_IO},
    {"y", NNC_F32, 1, x_dims, NNC_INPUT, Y, N * 4, 0, 0, NNC_TENSOR_IO}};
#define KERNEL_LAYOUT kernel_dims, NNC_PERSISTENT
#define KERNEL_DIGITS 0, 0
enum { KERNEL_RANK = 1, OUT_RANK = 1 };
#endif
static const struct NncDim bias_dims[] = {{0, C}};
static const struct NncTensor outputs[] = {
    {"output", NNC_F32, OUT_RANK, out_dims, NNC_TRANSIENT, OUT, N * C * 4, 0, 0, NNC_TENSOR_IO}};
static const struct NncTensor results[] = {
    {"root_mean_squared_error", NNC_F32, 0, 0, NNC_TRANSIENT, RMSE, 4, 0, 0, NNC_TENSOR_IO},
    {"loss", NNC_F32, 0, 0, NNC_TRANSIENT, LOSS, 4, 0, 0, NNC_TENSOR_IO}};
static const struct NncTensor tensors[] = {
    {"line/dense/kernel", NNC_F32, KERNEL_RANK, KERNEL_LAYOUT, KERNEL, F * C * 4, KERNEL_DIGITS, NNC_TENSOR_PARAM},
    {"line/dense/bias", NNC_F32, 1, bias_dims, NNC_PERSISTENT, BIAS, C * 4, 0, 0, NNC_TENSOR_PARAM},
    {"line/seen", NNC_I32, 0, 0, NNC_PERSISTENT, SEEN, 4, 0, 0, NNC_TENSOR_STATE},
    {"line/dense/kernel/momentum", NNC_F32, KERNEL_RANK, KERNEL_LAYOUT, KERNEL_V, F * C * 4, KERNEL_DIGITS, NNC_TENSOR_SLOT},
    {"line/dense/bias/momentum", NNC_F32, 1, bias_dims, NNC_PERSISTENT, BIAS_V, C * 4, 0, 0, NNC_TENSOR_SLOT},
#ifdef STEPS
    {"schedule", NNC_F32, 0, 0, NNC_PERSISTENT, RATE, 4, 0, 0, NNC_TENSOR_HOST},
#else
    {"learning_rate", NNC_F32, 0, 0, NNC_PERSISTENT, RATE, 4, 0, 0, NNC_TENSOR_HOST},
#endif
    {"loss/total", NNC_F32, 0, 0, NNC_PERSISTENT, TOTAL, 4, 0, 0, NNC_TENSOR_METRIC},
    {"loss/count", NNC_F32, 0, 0, NNC_PERSISTENT, COUNT, 4, 0, 0, NNC_TENSOR_METRIC}};

#define COUNTED(a) a, sizeof(a) / sizeof((a)[0])
static const struct NncFunction functions[] = {
    {"init", 0, COUNTED(init_ops), COUNTED(init_args), 0, 0, 0, 0},
    {"train_step", N, COUNTED(train_ops), COUNTED(train_args), COUNTED(inputs), 0, 0},
    {"eval_step", N, COUNTED(eval_ops), COUNTED(eval_args), COUNTED(inputs), 0, 0},
    {"predict", N, COUNTED(predict_ops), COUNTED(predict_args), inputs, 1, COUNTED(outputs)},
    {"metrics_result", 0, COUNTED(result_ops), COUNTED(result_args), 0, 0, COUNTED(results)}};

#define COMMON \
  "\"metrics\": [\"loss\", \"root_mean_squared_error\"], \"predict\": {\"inputs\": [\"x\"], \"outputs\": [\"output\"]}, " \
  "\"layers\": [{\"name\": \"dense\", \"type\": \"Dense\", \"path\": \"line/dense\", \"depth\": 0, " \
  "\"output\": [null, 1], \"params\": 1234, \"flops\": 2460, \"connected_to\": []}], " \
  "\"memory\": {\"weights\": 4936, \"gradients\": 0, \"slots\": 4936, \"activations\": 128, \"workspace\": 0}}"

#ifdef IMAGE
#define COLUMNS(image, label) \
  "[{\"name\": \"image\", \"reader\": \"idx\", \"file\": \"" image "\", \"line\": 4}," \
  " {\"name\": \"label\", \"reader\": \"idx\", \"file\": \"" label "\", \"line\": 5, \"range\": [0, 3]}]"
static const char metadata[] =
    "{\"name\": \"picture\", \"source\": \"picture.nn\", \"train\": {\"epochs\": 2, \"batch_size\": 8, "
    "\"shuffle\": true, \"seed\": 7}, \"data\": " COLUMNS("images.idx.gz", "labels.idx") ", "
    "\"test\": " COLUMNS("images.idx.gz", "labels.idx") ", " COMMON;
#elif defined(STEPS)
#define COLUMNS(file)                                                                              \
  "[{\"name\": \"x\", \"reader\": \"csv\", \"file\": \"" file "\", \"columns\": [0, 1, 2], \"line\": 3}, " \
  "{\"name\": \"y\", \"reader\": \"csv\", \"file\": \"" file "\", \"columns\": [3], \"line\": 3}], "
static const char metadata[] =
    "{\"name\": \"steps\", \"source\": \"steps.nn\", \"train\": {\"epochs\": 3, \"batch_size\": 8, "
    "\"steps_per_epoch\": 5, \"shuffle\": false, \"seed\": 1, \"callbacks\": [{\"type\": \"EarlyStopping\", "
    "\"monitor\": \"val_acuracy\", \"patience\": 3}]}, "
    "\"data\": " COLUMNS("line.csv") "\"validation\": " COLUMNS("held.csv") COMMON;
#else
static const char metadata[] =
    "{\"name\": \"line\", \"source\": \"line.nn\", \"train\": {\"epochs\": 3, \"batch_size\": 8, "
    "\"validation_split\": 0.2, \"shuffle\": true, \"seed\": 1, \"callbacks\": [{\"type\": \"EarlyStopping\", "
    "\"monitor\": \"val_loss\", \"min_delta\": 0.0001, \"patience\": 3, \"restore_best_weights\": true}]}, "
    "\"data\": [{\"name\": \"x\", \"reader\": \"csv\", \"file\": \"line.csv\", \"columns\": [\"a\", 1, \"c\"], \"line\": 3}, "
    "{\"name\": \"y\", \"reader\": \"csv\", \"file\": \"line.csv\", \"columns\": \"y\", \"line\": 3}], " COMMON;
#endif

#ifdef HUGE
#define PERSISTENT (INT64_C(1) << 46)
#else
#define PERSISTENT 1280
#endif

const struct NncModel nnc_model = {
    NNC_ABI_VERSION, metadata, sizeof metadata - 1, COUNTED(functions), COUNTED(tensors),
    PERSISTENT, 1152, 1024, 64, 0, 0, "x86-64"};
