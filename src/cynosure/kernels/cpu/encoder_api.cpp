// Take whole texts through all layers: a bundle a thread, or one bundle shared by all. Knows nothing of vectors.
#include "encoder_api.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "encoder_plan.h"
#include "encoder_work.h"
#include "pool.h"
#include "workspace.h"

namespace cynosure {
namespace {

constexpr std::int64_t kRowsInTask = 32;    // of what is done to each row by itself
constexpr std::int64_t kTasksPerThread = 4;  // that a product is cut into where threads share it
constexpr std::int64_t kTileRows = 16;

// Columns of a buffer that products read: 64 bytes more than a multiple of 128, or rows of a tile would share the
// few sets of the first cache that a power of two leaves them.
std::int64_t spread(std::int64_t width) { return (width + 63) / 64 * 64 + 32; }

std::int64_t up_to(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

std::int64_t pieces(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit; }

template <class Task>
void share(std::int64_t num_tasks, const Task& task) {
  const auto run = [](void* context, int index, int thread) { (*static_cast<const Task*>(context))(index, thread); };
  run_tasks(static_cast<int>(num_tasks), run, const_cast<Task*>(&task));
}

// One bundle on its way through the layers. Within a region `share` runs its tasks one after the other.
class Bundle {
 public:
  Bundle(const CynEncoder& encoder, const CynEncoderPass& pass, std::vector<BundledText>& texts, bool is_shared)
      : table_(CYN_SELECT(encoder_table)), encoder_(encoder), is_shared_(is_shared) {
    for (const BundledText& text : texts) {
      num_rows_ += text.length;
      longest_ = std::max(longest_, text.length);
    }
    work_ = {&encoder, &pass, texts.data(), static_cast<std::int64_t>(texts.size()), {}};
    lay_out();
  }

  void run() {
    each_text([&](const BundledText& text) { table_.embed(work_, text); });
    for (std::int64_t i = 0; i < encoder_.num_layers; ++i) run_layer(encoder_.layers[i]);
    if (encoder_.is_pre_norm) normalise(encoder_.final_norm, true);
    each_text([&](const BundledText& text) { table_.pool(work_, text); });
  }

 private:
  void run_layer(const CynEncoderLayer& layer) {
    EncoderRoom& room = work_.room;
    if (encoder_.is_pre_norm) normalise(layer.attention_norm, false);
    multiply(*layer.qkv, room.narrow, Ending::kStore, room.qkv.first, room.qkv.stride);
    if (layer.cos != nullptr) each_text([&](const BundledText& text) { table_.rotate(work_, layer, text); });
    share(work_.num_texts * encoder_.num_heads, [&](int index, int thread) {
      const BundledText& text = work_.texts[index / encoder_.num_heads];
      table_.attend(work_, layer, text, index % encoder_.num_heads, scratch_of(thread));
    });
    multiply(*layer.out, room.attended, Ending::kAdd, room.x, encoder_.hidden_size);
    normalise(encoder_.is_pre_norm ? layer.mlp_norm : layer.attention_norm, !encoder_.is_pre_norm);
    const Ending ending = layer.up->is_gated != 0 ? Ending::kGate : Ending::kActivate;
    multiply(*layer.up, room.narrow, ending, room.inner.first, room.inner.stride);
    multiply(*layer.down, room.inner, Ending::kAdd, room.x, encoder_.hidden_size);
    if (!encoder_.is_pre_norm) normalise(layer.mlp_norm, true);
  }

  template <class Task>
  void each_text(const Task& task) {
    share(work_.num_texts, [&](int index, int) { task(work_.texts[index]); });
  }

  template <class Task>
  void each_rows(const Task& task) {
    const std::int64_t unit = is_shared_ ? kRowsInTask : num_rows_;
    share(pieces(num_rows_, unit), [&](int index, int) {
      task(RowRange{index * unit, std::min(num_rows_, (index + 1) * unit)});
    });
  }

  void normalise(const CynLayerNorm& norm, bool is_kept) {
    each_rows([&](RowRange rows) { table_.norm(work_, norm, is_kept, rows); });
  }

  void multiply(const CynLinear& linear, const Rows& x, Ending ending, void* out, std::int64_t out_stride) {
    EncoderRoom& room = work_.room;
    Product product{&linear, reinterpret_cast<const char*>(x.first), 2 * x.stride, nullptr, nullptr, ending,
                    encoder_.activation, out, out_stride};
    if (linear.type == CYN_INT8) {
      const std::int64_t width = linear.padded_columns, stride = width + 64;
      const Codes codes{room.codes, stride, room.scales, room.sums};
      each_rows([&](RowRange rows) { table_.quantise(x, width, codes, rows); });
      product.x = reinterpret_cast<const char*>(room.codes);
      product.x_bytes = stride;
      product.scales = room.scales;
      product.sums = room.sums;
    }
    const std::int64_t num_panels = pieces(num_rows_, kPanelRows), num_pairs = linear.num_blocks / 2;
    const std::int64_t wanted = is_shared_ ? pieces(kTasksPerThread * num_threads(), num_panels) : 1;
    const std::int64_t cuts = std::min(num_pairs, wanted);
    share(num_panels * cuts, [&](int index, int thread) {
      const std::int64_t panel = index / cuts * kPanelRows, cut = index % cuts;
      const RowRange rows{panel, std::min(num_rows_, panel + kPanelRows)};
      table_.multiply(product, num_pairs * cut / cuts, num_pairs * (cut + 1) / cuts, rows, scratch_of(thread));
    });
  }

  char* scratch_of(int thread) const { return scratch_ + thread * scratch_bytes_; }

  // Take `count` numbers of a buffer that is measured first and handed out then.
  template <class Number>
  void take(Number*& to, std::int64_t count) {
    to = reinterpret_cast<Number*>(memory_ + used_);
    used_ += up_to(count * static_cast<std::int64_t>(sizeof(Number)), 64);
  }

  void take_all() {
    EncoderRoom& room = work_.room;
    // Strips of queries and groups of rows reach beyond the last row.
    const std::int64_t rows = up_to(num_rows_, kGroupRows) + kTileRows;
    used_ = 0;
    take(room.x, rows * encoder_.hidden_size);
    take(room.narrow.first, rows * room.narrow.stride);
    take(room.qkv.first, rows * room.qkv.stride);
    take(room.attended.first, rows * room.attended.stride);
    take(room.inner.first, rows * room.inner.stride);
    const std::int64_t widest = std::max({room.narrow.stride, room.attended.stride, room.inner.stride});
    take(room.codes, has_codes() ? rows * (widest + 64) : 0);
    take(room.scales, rows);
    take(room.sums, rows);
    take(scratch_, scratch_bytes_ * (is_shared_ ? num_threads() : 1));
  }

  bool has_codes() const {
    for (std::int64_t i = 0; i < encoder_.num_layers; ++i) {
      const CynEncoderLayer& layer = encoder_.layers[i];
      for (const CynLinear* linear : {layer.qkv, layer.out, layer.up, layer.down}) {
        if (linear->type == CYN_INT8) return true;
      }
    }
    return false;
  }

  void lay_out() {
    EncoderRoom& room = work_.room;
    const std::int64_t width = encoder_.num_heads * encoder_.head_dim;
    room.narrow.stride = spread(encoder_.hidden_size);
    room.qkv.stride = 3 * width;
    room.attended.stride = spread(width);
    room.inner.stride = spread(encoder_.intermediate_size);
    scratch_bytes_ = up_to(table_.scratch(encoder_, longest_), 64);
    take_all();
    memory_ = workspace(static_cast<std::size_t>(used_));
    take_all();
    clear(room.narrow, encoder_.hidden_size);
    clear(room.attended, width);
    clear(room.inner, encoder_.intermediate_size);
  }

  // What columns are padded with must be numbers: zero times NaN is none.
  void clear(const Rows& rows, std::int64_t width) const {
    const auto bytes = static_cast<std::size_t>(2 * (rows.stride - width));
    for (std::int64_t row = 0; row < num_rows_; ++row) std::memset(rows.first + row * rows.stride + width, 0, bytes);
  }

  const EncoderTable& table_;
  const CynEncoder& encoder_;
  EncoderWork work_{};
  bool is_shared_;
  std::int64_t num_rows_ = 0, longest_ = 0, scratch_bytes_ = 0, used_ = 0;
  char *memory_ = nullptr, *scratch_ = nullptr;
};

void run_bundle(const CynEncoder& encoder, const CynEncoderPass& pass, const Bundles& bundles, std::size_t index,
                bool is_shared) {
  std::vector<BundledText> texts;
  std::int64_t first = 0;
  for (std::int64_t i = bundles.starts[index]; i < bundles.starts[index + 1]; ++i) {
    const std::int64_t seq = bundles.order[static_cast<std::size_t>(i)], origin = pass.cu_seqlens[seq];
    texts.push_back({first, origin, pass.cu_seqlens[seq + 1] - origin, seq});
    first += texts.back().length;
  }
  Bundle(encoder, pass, texts, is_shared).run();
}

}  // namespace
}  // namespace cynosure

// Whether the variant in use runs encoders.
CYN_API int cyn_has_encoders() { return CYN_SELECT(encoder_table).embed != nullptr; }

CYN_API void cyn_encode(const CynEncoder* encoder, const CynEncoderPass* pass) {
  using namespace cynosure;
  if (pass->num_seqs == 0) return;
  const Bundles bundles = share_texts_out(pass->cu_seqlens, pass->num_seqs, num_threads());
  const std::size_t num_bundles = bundles.starts.size() - 1;
  if (num_bundles == 1) return run_bundle(*encoder, *pass, bundles, 0, true);
  share(static_cast<std::int64_t>(num_bundles), [&](int index, int) {
    run_bundle(*encoder, *pass, bundles, static_cast<std::size_t>(index), false);
  });
}

CYN_API std::int64_t cyn_sizeof_encoder_structs() {
  return sizeof(CynEncoder) + sizeof(CynEncoderLayer) + sizeof(CynEncoderPass);
}
