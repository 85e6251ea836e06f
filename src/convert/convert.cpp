#include "convert/convert.h"

#include <algorithm>
#include <filesystem>
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
#include "convert/vocabulary.h"
#include "models/safetensors.h"

namespace hearth::convert {
namespace {

constexpr std::uint32_t kQuantizationVersion = 2;  // GGML_QNT_VERSION

struct PlannedTensor {
    OutputTensor output;
    models::SafetensorsTensor const* source = nullptr;  // null: `values`
    std::uint32_t heads = 0;
    float shift = 0;
    std::vector<float> values;
};

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
    Planner(Architecture const& architecture, ElementType type, std::string const& folder)
        : architecture_(architecture), type_(type), folder_(folder) {}

    Status add(models::SafetensorsTensor const& source) {
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
        planned.source = &source;
        planned.heads = target->heads;
        planned.shift = target->shift;
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
        if (layers_.size() != architecture_.layers()) {
            return Error(Code::corrupt,
                         fmt::format("{}: tensors of {} layers, config.json says there are {}", folder_, layers_.size(),
                                     architecture_.layers()),
                         folder_);
        }
        return std::move(plan_);
    }

private:
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
    std::string const& folder_;
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

class Writer {
public:
    Writer(models::SafetensorsModel const& model, GgufOutput& output, Progress progress, Watch const& watch)
        : model_(model), output_(output), progress_(progress), watch_(watch) {}

    Status write(PlannedTensor const& planned) {
        if (planned.source == nullptr) HEARTH_CHECK(put(std::as_bytes(std::span(planned.values))));
        else HEARTH_CHECK(copy(planned));
        ++progress_.tensors_done;
        return ok();
    }

private:
    Status copy(PlannedTensor const& planned) {
        auto const& source = *planned.source;
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

    Status put(std::span<std::byte const> bytes) {
        HEARTH_CHECK(output_.write(bytes));
        progress_.bytes_done += bytes.size();
        if (watch_ && !watch_(progress_)) return Error(Code::cancelled, "the conversion was stopped");
        return ok();
    }

    models::SafetensorsModel const& model_;
    GgufOutput& output_;
    Progress progress_;
    Watch const& watch_;
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

    Report report{.architecture = std::string(architecture.name())};
    report.type = options.type.value_or(guess_type(model.tensors()));
    Planner planner(architecture, report.type, options.folder);
    HEARTH_TRY(auto factors, architecture.rope_factors(config));
    HEARTH_CHECK(planner.add_rope_factors(std::move(factors)));
    for (auto const& tensor : model.tensors()) HEARTH_CHECK(planner.add(tensor));
    HEARTH_TRY(auto const plan, planner.finish());

    std::vector<OutputTensor> tensors;
    Progress progress{.tensors = plan.size()};
    for (auto const& tensor : plan) {
        tensors.push_back(tensor.output);
        progress.bytes += tensor.output.bytes();
        report.parameters += tensor.output.bytes() / element_bytes(tensor.output.type);
    }
    Metadata metadata;
    metadata.text("general.architecture", architecture.name());
    HEARTH_CHECK(add_general(metadata, config, folder_name(options.folder), report.parameters));
    HEARTH_CHECK(architecture.add_parameters(metadata, config, report.type));
    metadata.u32("general.quantization_version", kQuantizationVersion);
    HEARTH_CHECK(add_vocabulary(metadata, config, architecture));

    report.tensors = plan.size();
    report.file_bytes = GgufOutput::file_bytes(metadata, tensors);
    if (planned) HEARTH_CHECK(planned(report));
    HEARTH_TRY(auto output, GgufOutput::create(options.output, metadata, tensors));
    Writer writer(model, output, progress, watch);
    for (auto const& tensor : plan) HEARTH_CHECK(writer.write(tensor));
    HEARTH_ASSERT(output.complete(), "every tensor is written");
    HEARTH_CHECK(model.unchanged());
    return report;
}

}  // namespace hearth::convert
