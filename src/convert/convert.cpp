#include "convert/convert.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/assert.h"
#include "convert/architecture.h"
#include "convert/general.h"
#include "convert/gguf_output.h"
#include "convert/hf_config.h"
#include "convert/metadata.h"
#include "convert/model_name.h"
#include "convert/packed.h"
#include "convert/vocabulary.h"
#include "models/safetensors.h"

namespace hearth::convert {
namespace {

constexpr std::uint32_t kQuantizationVersion = 2;  // GGML_QNT_VERSION

struct PlannedTensor {
    OutputTensor output;
    std::vector<models::SafetensorsTensor const*> sources;  // one behind the other; none: `values` or `packed`
    std::uint32_t heads = 0;
    float shift = 0;
    std::vector<float> values;
    PackedTensors packed;  // where the output's storage is q4_1
    PackedShape packed_shape;
};

constexpr std::uint32_t kFileTypeQ4_1 = 3;  // LLAMA_FTYPE_MOSTLY_Q4_1

// As upstream guesses it: the type of the first matrix in the files.
ElementType guess_type(std::span<models::SafetensorsTensor const> tensors) {
    for (auto const& tensor : tensors) {
        if (tensor.shape.size() < 2) continue;
        if (tensor.type == models::SafetensorsType::bf16) return ElementType::bf16;
        if (tensor.type == models::SafetensorsType::f16) return ElementType::f16;
    }
    return ElementType::f16;
}

class Planner {
public:
    Planner(Architecture const& architecture, ElementType type, std::optional<PackedFormat> packed,
            std::string const& folder)
        : architecture_(architecture), type_(type), packed_(packed), folder_(folder) {}

    Status add(models::SafetensorsTensor const& source) {
        if (packed_ && collect(source)) return ok();
        HEARTH_TRY(auto target, architecture_.target(source.name));
        if (!target) return ok();
        if (!element_type_of(source.type)) {
            return refuse(source.name, Code::unsupported,
                          fmt::format("its type {} is not converted; F32, F16 and BF16 are", to_string(source.type)));
        }
        if (source.bytes == 0 || source.shape.empty()) return refuse(source.name, Code::corrupt, "it is empty");
        PlannedTensor planned;
        planned.output.shape = source.shape;
        if (target->squeeze) {
            if (source.shape.size() != 3 || source.shape[1] != 1)
                return refuse(source.name, Code::corrupt, "its second of three dimensions is not 1");
            planned.output.shape.erase(planned.output.shape.begin() + 1);
        }
        if (planned.output.shape.size() > 4)
            return refuse(source.name, Code::unsupported, "it has more than 4 dimensions");
        if (target->heads > 0) HEARTH_CHECK(check_heads(source, target->heads));
        if (target->name == "token_embd.weight" && source.shape[0] != architecture_.vocabulary()) {
            return refuse(source.name, Code::corrupt,
                          fmt::format("it has {} rows, config.json says vocab_size is {}", source.shape[0],
                                      architecture_.vocabulary()));
        }
        if (target->layer) layers_.insert(*target->layer);
        planned.output.name = std::move(target->name);
        planned.output.type = Architecture::type_of(planned.output.name, planned.output.shape.size(), type_);
        planned.sources.push_back(&source);
        planned.heads = target->heads;
        planned.shift = target->shift;
        if (target->expert) return add_expert(*target, std::move(planned));
        return keep(std::move(planned));
    }

    // REQUIRES: before any add(); upstream's order
    Status add_rope_factors(std::vector<float> factors) {
        if (factors.empty()) return ok();
        PlannedTensor planned;
        planned.output = {.name = "rope_freqs.weight", .shape = {factors.size()}, .type = ElementType::f32};
        planned.values = std::move(factors);
        return keep(std::move(planned));
    }

    Result<std::vector<PlannedTensor>> finish() {
        for (auto const& [name, tensors] : matrices_) HEARTH_CHECK(add_packed(name, tensors));
        if (!experts_.empty()) {
            return Error(Code::corrupt,
                         fmt::format("{}: not all matrices of the {} experts of layer {} are there", folder_,
                                     architecture_.experts(), experts_.begin()->first),
                         folder_);
        }
        if (layers_.size() != architecture_.layers()) {
            return Error(Code::corrupt,
                         fmt::format("{}: tensors of {} layers, config.json says there are {}", folder_, layers_.size(),
                                     architecture_.layers()),
                         folder_);
        }
        return std::move(plan_);
    }

private:
    // The matrices of a layer's experts become three tensors, placed where the last of them is found.
    Status add_expert(TensorTarget const& target, PlannedTensor planned) {
        auto const& source = *planned.sources.front();
        auto const count = architecture_.experts();
        auto& group = experts_[target.layer.value_or(0)][planned.output.name];
        if (group.sources.empty()) {
            group = planned;
            group.sources.assign(count, nullptr);
            group.output.shape.insert(group.output.shape.begin(), count);
            group.output.type = Architecture::type_of(group.output.name, group.output.shape.size(), type_);
        }
        auto const& first = group.output.shape;
        if (source.shape.size() != 2 || source.shape[0] != first[1] || source.shape[1] != first[2])
            return refuse(source.name, Code::corrupt, "it has not the shape of the other experts");
        auto& place = group.sources[*target.expert];
        if (place != nullptr) return refuse(source.name, Code::corrupt, "two tensors of the folder are this one");
        place = &source;
        return place_if_whole(target.layer.value_or(0));
    }

    Status place_if_whole(std::uint32_t layer) {
        constexpr std::size_t kMatrices = 3;
        auto& groups = experts_[layer];
        if (groups.size() < kMatrices) return ok();
        for (auto const& [name, group] : groups) {
            if (std::ranges::find(group.sources, nullptr) != group.sources.end()) return ok();
        }
        // In the order of their names, which is upstream's: down, gate, up.
        for (auto& [name, group] : groups) HEARTH_CHECK(keep(std::move(group)));
        experts_.erase(layer);
        return ok();
    }

    // Whether it is a part of a packed matrix, whose parts may lie in several shards.
    bool collect(models::SafetensorsTensor const& source) {
        auto const dot = source.name.rfind('.');
        if (dot == std::string::npos) return false;
        auto const part = std::string_view(source.name).substr(dot + 1);
        auto const into = [&](models::SafetensorsTensor const* PackedTensors::* member) {
            matrices_[source.name.substr(0, dot)].*member = &source;
            return true;
        };
        if (part == "qweight") return into(&PackedTensors::qweight);
        if (part == "qzeros") return into(&PackedTensors::qzeros);
        if (part == "scales") return into(&PackedTensors::scales);
        if (part == "g_idx") return into(&PackedTensors::g_idx);
        return false;
    }

    Status add_packed(std::string const& name, PackedTensors const& tensors) {
        HEARTH_TRY(auto target, architecture_.target(name + ".weight"));
        if (!target) return ok();
        if (target->expert) return refuse(name, Code::unsupported, "packed experts are not converted");
        PlannedTensor planned;
        HEARTH_TRY(planned.packed_shape, packed_shape(*packed_, tensors, name));
        auto const rows = planned.packed_shape.rows;
        if (target->heads > 0 && rows % (std::uint64_t{2} * target->heads) != 0)
            return refuse(name, Code::corrupt, fmt::format("{} rows are not {} heads of pairs", rows, target->heads));
        if (target->layer) layers_.insert(*target->layer);
        planned.output = {.name = std::move(target->name),
                          .shape = {rows, planned.packed_shape.columns},
                          .type = ElementType::f32,
                          .storage = Storage::q4_1};
        planned.heads = target->heads;
        planned.packed = tensors;
        return keep(std::move(planned));
    }

    [[nodiscard]] Error refuse(std::string_view name, Code code, std::string_view what) const {
        return Error(code, fmt::format("{}: tensor \"{}\": {}", folder_, name, what), folder_);
    }

    [[nodiscard]] Status check_heads(models::SafetensorsTensor const& source, std::uint32_t heads) const {
        auto const rows = source.shape[0];
        if (rows % (std::uint64_t{2} * heads) != 0)
            return refuse(source.name, Code::corrupt, fmt::format("{} rows are not {} heads of pairs", rows, heads));
        if (source.bytes / heads > kHeadBytesMax) {
            return refuse(
                source.name, Code::too_large,
                fmt::format("a head of {} bytes; at most {} are converted", source.bytes / heads, kHeadBytesMax));
        }
        return ok();
    }

    Status keep(PlannedTensor planned) {
        if (!names_.insert(planned.output.name).second)
            return refuse(planned.output.name, Code::corrupt, "two tensors of the folder are this one");
        plan_.push_back(std::move(planned));
        return ok();
    }

    Architecture const& architecture_;
    ElementType const type_;
    std::optional<PackedFormat> const packed_;
    std::string const& folder_;
    std::map<std::string, PackedTensors> matrices_;
    std::map<std::uint32_t, std::map<std::string, PlannedTensor>> experts_;  // by layer and name, until they are whole
    std::vector<PlannedTensor> plan_;
    std::set<std::string> names_;
    std::set<std::uint32_t> layers_;
};

// Within each head the rows are two halves; the engine wants first and first, second and second.
void interleave_halves(std::span<std::byte const> head, std::uint64_t row_bytes, std::span<std::byte> out) {
    auto const half = head.size() / row_bytes / 2;
    for (std::uint64_t row = 0; row < half * 2; ++row) {
        auto const source = head.subspan(((row % 2) * half + row / 2) * row_bytes, row_bytes);
        std::copy(source.begin(), source.end(), out.begin() + static_cast<std::ptrdiff_t>(row * row_bytes));
    }
}

// The row of the folder's matrix that is this row of the engine's: see interleave_halves().
std::uint64_t source_row(std::uint64_t row, std::uint64_t rows, std::uint32_t heads) {
    if (heads == 0) return row;
    auto const width = rows / heads;
    auto const within = row % width;
    return row - within + (within % 2) * (width / 2) + within / 2;
}

// Columns that are not in their groups' order would lose their scales.
Status check_order(models::SafetensorsModel const& model, PlannedTensor const& planned) {
    if (planned.packed.g_idx == nullptr) return ok();
    std::vector<std::uint32_t> groups(planned.packed_shape.columns);
    HEARTH_CHECK(model.read(*planned.packed.g_idx, 0, std::as_writable_bytes(std::span(groups))));
    for (std::uint64_t i = 0; i < groups.size(); ++i) {
        if (groups[i] == i / planned.packed_shape.group) continue;
        return Error(
            Code::unsupported,
            fmt::format("matrix \"{}\": g_idx puts its columns into another order (desc_act), which Q4_1 cannot "
                        "keep",
                        planned.packed.g_idx->name));
    }
    return ok();
}

class Writer {
public:
    Writer(models::SafetensorsModel const& model, GgufOutput& output, std::optional<PackedFormat> packed,
           Progress progress, Watch const& watch)
        : model_(model), output_(output), packed_(packed), progress_(progress), watch_(watch) {}

    Status write(PlannedTensor const& planned) {
        if (planned.output.storage == Storage::q4_1) HEARTH_CHECK(unpack(planned));
        else if (planned.sources.empty()) HEARTH_CHECK(put(std::as_bytes(std::span(planned.values))));
        for (auto const* source : planned.sources) HEARTH_CHECK(copy(planned, *source));
        ++progress_.tensors_done;
        return ok();
    }

private:
    Status copy(PlannedTensor const& planned, models::SafetensorsTensor const& source) {
        auto const from = element_type_of(source.type).value();
        auto const piece = planned.heads > 0 ? source.bytes / planned.heads : std::min(source.bytes, kChunkBytes);
        for (std::uint64_t done = 0; done < source.bytes;) {
            in_.resize(std::min(piece, source.bytes - done));
            HEARTH_CHECK(model_.read(source, done, in_));
            done += in_.size();
            if (planned.heads > 0) {
                ordered_.resize(in_.size());
                interleave_halves(in_, source.bytes / source.shape[0], ordered_);
                in_.swap(ordered_);
            }
            out_.resize(in_.size() / element_bytes(from) * element_bytes(planned.output.type));
            convert_elements(from, in_, planned.shift, planned.output.type, out_);
            HEARTH_CHECK(put(out_));
        }
        return ok();
    }

    Status unpack(PlannedTensor const& planned) {
        auto const read_whole = [&](models::SafetensorsTensor const& tensor, std::vector<std::byte>& into) {
            into.resize(tensor.bytes);
            return model_.read(tensor, 0, into);
        };
        HEARTH_CHECK(read_whole(*planned.packed.qweight, in_));
        HEARTH_CHECK(read_whole(*planned.packed.qzeros, zeros_));
        HEARTH_CHECK(read_whole(*planned.packed.scales, scales_));
        auto const& shape = planned.packed_shape;
        out_.resize(shape.columns / kBlockNumbers * kBlockBytes);
        for (std::uint64_t row = 0; row < shape.rows; ++row) {
            auto const status =
                row_to_q4_1(*packed_, shape, {in_, zeros_, scales_}, source_row(row, shape.rows, planned.heads), out_);
            if (!status) {
                return Error(status.error().code,
                             fmt::format("matrix \"{}\": {}", planned.packed.qweight->name, status.error().message));
            }
            HEARTH_CHECK(put(out_));
        }
        return ok();
    }

    Status put(std::span<std::byte const> bytes) {
        HEARTH_CHECK(output_.write(bytes));
        progress_.bytes_done += bytes.size();
        if (watch_ && !watch_(progress_)) return Error(Code::cancelled, "the conversion was stopped");
        return ok();
    }

    models::SafetensorsModel const& model_;
    GgufOutput& output_;
    std::optional<PackedFormat> const packed_;
    Progress progress_;
    Watch const& watch_;
    std::vector<std::byte> zeros_;
    std::vector<std::byte> scales_;
    std::vector<std::byte> in_;
    std::vector<std::byte> ordered_;
    std::vector<std::byte> out_;
};

std::string folder_name(std::string const& folder) {
    std::error_code failed;
    auto const path = std::filesystem::canonical(folder, failed);
    return failed ? std::string() : path.filename().string();
}

}  // namespace

Result<Report> convert(Options const& options, Planned const& planned, Watch const& watch) {
    HEARTH_TRY(auto const config, HfConfig::read(options.folder));
    HEARTH_TRY(auto const architecture, Architecture::of(config));
    HEARTH_TRY(auto const model, models::SafetensorsModel::open(options.folder));

    HEARTH_TRY(auto const packed, packed_format(config));

    auto const type = options.type.value_or(guess_type(model.tensors()));
    Report report{.architecture = std::string(architecture.name()),
                  .type = packed ? "q4_1" : std::string(to_string(type))};
    Planner planner(architecture, type, packed, options.folder);
    HEARTH_TRY(auto factors, architecture.rope_factors(config));
    HEARTH_CHECK(planner.add_rope_factors(std::move(factors)));
    for (auto const& tensor : model.tensors()) HEARTH_CHECK(planner.add(tensor));
    HEARTH_TRY(auto const plan, planner.finish());

    std::vector<OutputTensor> tensors;
    std::uint64_t active_parameters = 0;  // one expert's of each mixture
    Progress progress{.tensors = plan.size()};
    for (auto const& tensor : plan) {
        tensors.push_back(tensor.output);
        progress.bytes += tensor.output.bytes();
        report.parameters += tensor.output.elements();
        active_parameters += tensor.output.elements() / (tensor.sources.size() > 1 ? tensor.sources.size() : 1);
        HEARTH_CHECK(check_order(model, tensor));
    }
    Metadata metadata;
    metadata.text("general.architecture", architecture.name());
    HEARTH_CHECK(add_general(metadata, config, folder_name(options.folder), report.parameters,
                             size_label_of(active_parameters, architecture.experts())));
    HEARTH_CHECK(architecture.add_parameters(metadata, config, type));
    if (packed) metadata.u32("general.file_type", kFileTypeQ4_1);
    metadata.u32("general.quantization_version", kQuantizationVersion);
    HEARTH_CHECK(add_vocabulary(metadata, config, architecture));

    report.tensors = plan.size();
    report.file_bytes = GgufOutput::file_bytes(metadata, tensors);
    if (planned) HEARTH_CHECK(planned(report));
    HEARTH_TRY(auto output, GgufOutput::create(options.output, metadata, tensors));
    Writer writer(model, output, packed, progress, watch);
    for (auto const& tensor : plan) HEARTH_CHECK(writer.write(tensor));
    HEARTH_ASSERT(output.complete(), "every tensor is written");
    HEARTH_CHECK(model.unchanged());
    return report;
}

}  // namespace hearth::convert
