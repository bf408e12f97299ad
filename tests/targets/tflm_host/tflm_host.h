// The part of TensorFlow Lite Micro's C++ interface that a generated program uses, declared so that the program can be
// compiled on this machine and linked with the interpreter and the kernels inside the Python package `tflite-micro`.
// Only declarations: what runs is the package's own code. Sizes and orders are checked by the test that runs it.
#ifndef EDGEWRIGHT_TFLM_HOST_H_
#define EDGEWRIGHT_TFLM_HOST_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#define TFLITE_SCHEMA_VERSION 3
#define TF_LITE_ENSURE_STATUS(a)      \
  do {                                \
    const TfLiteStatus s = (a);       \
    if (s != kTfLiteOk) return s;     \
  } while (0)

void MicroPrintf(const char* format, ...);

namespace tflite {

class Operator;
enum BuiltinOperator : int32_t;

// Root table of the flatbuffer; `version` is its first field.
class Model {
 public:
  uint32_t version() const {
    const uint8_t* self = reinterpret_cast<const uint8_t*>(this);
    int32_t back;
    std::memcpy(&back, self, 4);
    uint16_t at;
    std::memcpy(&at, self - back + 4, 2);
    uint32_t found;
    std::memcpy(&found, self + at, 4);
    return at ? found : 0;
  }
};

inline const Model* GetModel(const void* data) {
  uint32_t root;
  std::memcpy(&root, data, 4);
  return reinterpret_cast<const Model*>(static_cast<const uint8_t*>(data) + root);
}

namespace micro {

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
struct TfLiteContext;
struct TfLiteNode;
class BuiltinDataAllocator;
class MicroResourceVariables;
class MicroProfilerInterface;

union TfLitePtrUnion {
  void* data;
  char* raw;
  int8_t* int8;
  float* f;
};

struct TfLiteTensor {
  int32_t quantization_type;
  void* quantization;
  float scale;
  int32_t zero_point;
  TfLitePtrUnion data;
  void* dims;
  size_t bytes;
  int32_t type;
  int32_t allocation_type;
  bool is_variable;
};

struct TFLMRegistration {
  void* (*init)(TfLiteContext*, const char*, size_t);
  void (*free)(TfLiteContext*, void*);
  TfLiteStatus (*prepare)(TfLiteContext*, TfLiteNode*);
  TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*);
  void (*reset)(TfLiteContext*, void*);
  int32_t builtin_code;
  const char* custom_name;
};

using Parse = TfLiteStatus (*)(const Operator*, BuiltinDataAllocator*, void**);

class MicroOpResolver {
 public:
  virtual const TFLMRegistration* FindOp(BuiltinOperator op) const = 0;
  virtual const TFLMRegistration* FindOp(const char* op) const = 0;
  virtual Parse GetOpDataParser(BuiltinOperator op) const = 0;
  virtual ~MicroOpResolver() {}
};

#define EDGEWRIGHT_KERNEL(method, code, name, parse) \
  TFLMRegistration Register_##name();                \
  TfLiteStatus parse(const Operator*, BuiltinDataAllocator*, void**);
#include "kernels.inc"
#undef EDGEWRIGHT_KERNEL

template <unsigned int kCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  const TFLMRegistration* FindOp(BuiltinOperator op) const override {
    for (unsigned int i = 0; i < used_; ++i) {
      if (kernels_[i].builtin_code == op) return &kernels_[i];
    }
    return nullptr;
  }
  const TFLMRegistration* FindOp(const char*) const override { return nullptr; }
  Parse GetOpDataParser(BuiltinOperator op) const override {
    for (unsigned int i = 0; i < used_; ++i) {
      if (kernels_[i].builtin_code == op) return parsers_[i];
    }
    return nullptr;
  }
#define EDGEWRIGHT_KERNEL(method, code, name, parse) \
  TfLiteStatus Add##method() { return Add(code, Register_##name(), parse); }
#include "kernels.inc"
#undef EDGEWRIGHT_KERNEL

 private:
  TfLiteStatus Add(int32_t code, const TFLMRegistration& kernel, Parse parse) {
    if (used_ >= kCount) return kTfLiteError;
    kernels_[used_] = kernel;
    kernels_[used_].builtin_code = code;
    parsers_[used_++] = parse;
    return kTfLiteOk;
  }
  TFLMRegistration kernels_[kCount];
  Parse parsers_[kCount];
  unsigned int used_ = 0;
};

class MicroInterpreter {
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver& resolver, uint8_t* arena, size_t size,
                   MicroResourceVariables* variables = nullptr, MicroProfilerInterface* profiler = nullptr,
                   bool preserve_all_tensors = false);
  ~MicroInterpreter();
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input(size_t index);
  TfLiteTensor* output(size_t index);

 private:
  alignas(16) char own_[4096];  // more than the package's class has
};

}  // namespace micro

using micro::MicroInterpreter;
using micro::MicroMutableOpResolver;
inline void InitializeTarget() {}

}  // namespace tflite

using tflite::micro::kTfLiteError;
using tflite::micro::kTfLiteOk;
using tflite::micro::TfLiteStatus;
using tflite::micro::TfLiteTensor;

#endif  // EDGEWRIGHT_TFLM_HOST_H_
