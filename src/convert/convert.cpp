#include "convert/convert.h"

#include <algorithm>
#include <filesystem>
#include <optional>
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
#include "convert/plan.h"
#include "convert/vocabulary.h"
#include "models/safetensors.h"

namespace hearth::convert {
namespace {

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

// The row of the folder's matrix that is this row of the engine's: see interleave_halves().
std::uint64_t source_row(std::uint64_t row, std::uint64_t rows, std::uint32_t heads) {
    if (heads == 0) return row;
    auto const width = rows / heads;
    auto const within = row % width;
    return row - within + (within % 2) * (width / 2) + within / 2;
}

// Columns that are not in their groups' order would lose their scales.
Status check_order(models::SafetensorsModel const& model, PackedTensors const& packed, PackedShape const& shape) {
    if (packed.g_idx == nullptr) return ok();
    std::vector<std::uint32_t> groups(shape.columns);
    HEARTH_CHECK(model.read(*packed.g_idx, 0, std::as_writable_bytes(std::span(groups))));
    for (std::uint64_t i = 0; i < groups.size(); ++i) {
        if (groups[i] == i / shape.group) continue;
        return Error(
            Code::unsupported,
            fmt::format("matrix \"{}\": g_idx puts its columns into another order (desc_act), which Q4_1 cannot "
                        "keep",
                        packed.g_idx->name));
    }
    return ok();
}

class Writer {
public:
    Writer(models::SafetensorsModel const& model, GgufOutput& output, std::optional<PackedFormat> packed,
           Progress progress, Watch const& watch)
        : model_(model), output_(output), packed_(packed), progress_(progress), watch_(watch) {}

    Status write(PlannedTensor const& planned) {
        if (!planned.values.empty()) HEARTH_CHECK(put(std::as_bytes(std::span(planned.values))));
        for (auto const& packed : planned.packed) HEARTH_CHECK(unpack(planned, packed));
        for (auto const& source : planned.sources) HEARTH_CHECK(copy(planned, source));
        ++progress_.tensors_done;
        return ok();
    }

private:
    Status copy(PlannedTensor const& planned, SourcePiece const& source) {
        auto const from = element_type_of(source.tensor->type).value();
        auto const piece = planned.heads > 0 ? source.bytes / planned.heads : std::min(source.bytes, kChunkBytes);
        for (std::uint64_t done = 0; done < source.bytes;) {
            in_.resize(std::min(piece, source.bytes - done));
            HEARTH_CHECK(model_.read(*source.tensor, source.offset + done, in_));
            done += in_.size();
            if (planned.heads > 0) {
                ordered_.resize(in_.size());
                interleave_halves(in_, source.bytes / source.tensor->shape[0], ordered_);
                in_.swap(ordered_);
            }
            out_.resize(in_.size() / element_bytes(from) * element_bytes(planned.output.type));
            convert_elements(from, in_, planned.shift, planned.output.type, out_);
            HEARTH_CHECK(put(out_));
        }
        return ok();
    }

    Status unpack(PlannedTensor const& planned, PackedTensors const& packed) {
        auto const read_whole = [&](models::SafetensorsTensor const& tensor, std::vector<std::byte>& into) {
            into.resize(tensor.bytes);
            return model_.read(tensor, 0, into);
        };
        HEARTH_CHECK(read_whole(*packed.qweight, in_));
        HEARTH_CHECK(read_whole(*packed.qzeros, zeros_));
        HEARTH_CHECK(read_whole(*packed.scales, scales_));
        auto const& shape = planned.packed_shape;
        out_.resize(shape.columns / kBlockNumbers * kBlockBytes);
        for (std::uint64_t row = 0; row < shape.rows; ++row) {
            auto const status =
                row_to_q4_1(*packed_, shape, {in_, zeros_, scales_}, source_row(row, shape.rows, planned.heads), out_);
            if (!status) {
                return Error(status.error().code,
                             fmt::format("matrix \"{}\": {}", packed.qweight->name, status.error().message));
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
        active_parameters += tensor.output.elements() / tensor.experts;
        for (auto const& matrix : tensor.packed) HEARTH_CHECK(check_order(model, matrix, tensor.packed_shape));
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
