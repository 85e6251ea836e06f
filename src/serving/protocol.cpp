// One function per struct, fields(io, value), lists its fields once; run with a
// FieldWriter it encodes, with a FieldReader it decodes. So both directions
// agree by construction, and a check that stands in one stands in the other.
#include "serving/protocol.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/assert.h"
#include "serving/field_io.h"
#include "serving/report_fields.h"

namespace hearth::serving {
namespace {

constexpr std::size_t kLengthBytes = 4;
constexpr std::size_t kHeaderBytes = 3;  // version and type, counted by the length
constexpr std::size_t kStepCountAt = kLengthBytes + kHeaderBytes;
constexpr std::uint32_t kTokensMax = domain::kPromptBytesMax / sizeof(domain::Token);

enum class Type : std::uint8_t {
    submit = 1,
    cancel = 2,
    grant = 3,
    ping = 4,
    close = 5,
    ask_report = 6,
    limit_cache = 7,
    park = 8,
    wake = 9,
    loading = 16,
    ready = 17,
    load_failed = 18,
    step = 19,
    pong = 20,
    log = 21,
    report = 22,
    parked = 23,
};

// Smallest encoding of one element: bounds what a count may claim.
constexpr std::size_t kMessageBytes = 2 * kStringBytes;
constexpr std::size_t kInputBytes = 1 + kStringBytes;
constexpr std::size_t kBiasBytes = 8;
constexpr std::size_t kTokenLogprobBytes = 8 + kStringBytes;
constexpr std::size_t kSampledBytes = kTokenLogprobBytes + 4;
constexpr std::size_t kEntryBytes = 8 + 1 + kStringBytes;  // an Embedded without vectors

// --- what several structs share ---

// A choice's index travels as one byte.
template <typename Io, typename T>
void choice_index(Io& io, T& value) {
    io.check(value < domain::kChoicesMax, "choice");
    auto narrow = static_cast<std::uint8_t>(value);
    io.number(narrow);
    if constexpr (Io::kReads) {
        io.check(narrow < domain::kChoicesMax, "choice");
        value = narrow;
    }
}

template <typename Io, typename T>
void strings(Io& io, T& values, std::size_t count_max, char const* field) {
    io.list(values, count_max, kStringBytes, field, [](auto& inner, auto& value) { inner.bytes(value); });
}

template <typename Io, typename T>
    requires(std::is_same_v<std::remove_const_t<T>, Error>)
void fields(Io& io, T& error) {
    io.enumeration(error.code, static_cast<Code>(kCodeCount - 1), "error code");
    io.text(error.message);
    io.text(error.param);
}

template <typename Io, typename T>
void context(Io& io, T& tokens) {
    io.list(tokens, domain::kContextTokensMax, sizeof(domain::Token), "number of context tokens",
            [](auto& inner, auto& token) { inner.number(token); });
}

// --- the request ---

template <typename Io, Is<domain::ChatPrompt> T>
void fields(Io& io, T& prompt) {
    io.list(prompt.messages, domain::kMessagesMax, kMessageBytes, "number of messages", [](auto& inner, auto& message) {
        inner.bytes(message.role);
        inner.bytes(message.content);
    });
    io.flag(prompt.add_generation_prompt);
    io.bytes(prompt.jinja);
}

template <typename Io, Is<domain::TextPrompt> T>
void fields(Io& io, T& prompt) {
    io.bytes(prompt.text);
    io.flag(prompt.parse_special);
}

template <typename Io, Is<domain::InfillPrompt> T>
void fields(Io& io, T& prompt) {
    io.bytes(prompt.prefix);
    io.bytes(prompt.suffix);
}

template <typename Io, Is<std::string> T>
void fields(Io& io, T& text) {
    io.bytes(text);
}

template <typename Io, Is<std::vector<domain::Token>> T>
void fields(Io& io, T& tokens) {
    io.list(tokens, kTokensMax, sizeof(domain::Token), "number of prompt tokens",
            [](auto& inner, auto& token) { inner.number(token); });
}

template <typename Io, Is<domain::TokenPrompt> T>
void fields(Io& io, T& prompt) {
    fields(io, prompt.tokens);
}

template <typename Io, Is<domain::RankPair> T>
void fields(Io& io, T& pair) {
    io.bytes(pair.query);
    io.bytes(pair.document);
}

template <typename Io, Is<domain::EmbedPrompt> T>
void fields(Io& io, T& prompt) {
    io.list(prompt.inputs, domain::kEmbedInputsMax, kInputBytes, "number of inputs", [](auto& inner, auto& input) {
        inner.variant(input, "kind of input", [](auto& innermost, auto& value) { fields(innermost, value); });
    });
    io.flag(prompt.truncate);
}

template <typename Io, Is<domain::SamplingParams> T>
void fields(Io& io, T& p) {
    finite(io, p.temperature, "temperature");
    io.number(p.top_k);
    finite(io, p.top_p, "top_p");
    finite(io, p.min_p, "min_p");
    finite(io, p.typical_p, "typical_p");
    finite(io, p.repeat_penalty, "repeat_penalty");
    finite(io, p.frequency_penalty, "frequency_penalty");
    finite(io, p.presence_penalty, "presence_penalty");
    io.number(p.repeat_last_n);
    finite(io, p.dry_multiplier, "dry_multiplier");
    finite(io, p.dry_base, "dry_base");
    io.number(p.dry_allowed_length);
    io.number(p.dry_penalty_last_n);
    strings(io, p.dry_sequence_breakers, domain::kDryBreakersMax, "number of dry_sequence_breakers");
    finite(io, p.xtc_probability, "xtc_probability");
    finite(io, p.xtc_threshold, "xtc_threshold");
    io.enumeration(p.mirostat, domain::Mirostat::v2, "mirostat");
    finite(io, p.mirostat_tau, "mirostat_tau");
    finite(io, p.mirostat_eta, "mirostat_eta");
    io.list(p.logit_bias, domain::kLogitBiasMax, kBiasBytes, "number of logit_bias entries",
            [](auto& inner, auto& bias) {
                inner.number(bias.token);
                inner.number(bias.bias);
                inner.check(!std::isnan(bias.bias) && bias.bias < std::numeric_limits<float>::infinity(), "logit_bias");
            });
    io.optional(p.seed, [](auto& inner, auto& seed) { inner.number(seed); });
    io.flag(p.ignore_eos);
}

template <typename Io, Is<domain::GenerateRequest> T>
void fields(Io& io, T& request) {
    io.bytes(request.model);
    io.number(request.adapters);
    io.check(request.adapters <= domain::kAdapterSetsMax, "adapters");
    io.variant(request.prompt, "kind of prompt", [](auto& inner, auto& prompt) { fields(inner, prompt); });
    fields(io, request.sampling);
    io.number(request.choices);
    io.check(request.choices >= 1 && request.choices <= domain::kChoicesMax, "n");
    io.number(request.context_tokens);
    io.optional(request.max_tokens, [](auto& inner, auto& tokens) { inner.number(tokens); });
    strings(io, request.stop, domain::kStopStringsMax, "number of stop strings");
    io.optional(request.top_logprobs, [](auto& inner, auto& count) {
        inner.number(count);
        inner.check(count <= domain::kLogprobsMax, "top_logprobs");
    });
    io.flag(request.return_prompt_progress);
    io.enumeration(request.priority, domain::Priority::batch, "priority");
    io.bytes(request.tenant);
    io.bytes(request.cache_salt);
    auto const deadline = [](auto& inner, auto& ms) { inner.number(ms); };
    io.optional(request.deadlines.queue_ms, deadline);
    io.optional(request.deadlines.prefill_ms, deadline);
    io.optional(request.deadlines.decode_ms, deadline);
    io.flag(request.cache_prompt);
    io.enumeration(request.overflow, domain::Overflow::truncate_middle, "overflow");
    io.optional(request.keep_tokens, [](auto& inner, auto& tokens) { inner.number(tokens); });
    io.optional(request.discard_tokens, [](auto& inner, auto& tokens) { inner.number(tokens); });
    io.flag(request.speculate);
    io.flag(request.deterministic);
    context(io, request.context);
    io.flag(request.return_context);
}

// --- events ---

template <typename Io, Is<domain::TokenLogprob> T>
void fields(Io& io, T& token) {
    io.number(token.token);
    io.logprob(token.logprob);
    io.bytes(token.bytes);
}

template <typename Io, Is<domain::SampledLogprob> T>
void fields(Io& io, T& sampled) {
    fields(io, sampled.chosen);
    io.list(sampled.top, domain::kLogprobsMax, kTokenLogprobBytes, "number of top_logprobs",
            [](auto& inner, auto& token) { fields(inner, token); });
}

template <typename Io, Is<domain::Started> T>
void fields(Io& io, T& event) {
    io.number(event.prompt_tokens);
    io.number(event.cached_tokens);
}

template <typename Io, Is<domain::PromptProgress> T>
void fields(Io& io, T& event) {
    io.number(event.total);
    io.number(event.cached);
    io.number(event.processed);
    finite(io, event.ms, "progress ms");
}

template <typename Io, Is<domain::Delta> T>
void fields(Io& io, T& event) {
    choice_index(io, event.choice);
    io.number(event.tokens);
    io.text(event.text);
    io.list(event.logprobs, kTokensMax, kSampledBytes, "number of logprobs",
            [](auto& inner, auto& sampled) { fields(inner, sampled); });
}

template <typename Io, Is<domain::ChoiceDone> T>
void fields(Io& io, T& event) {
    choice_index(io, event.choice);
    io.enumeration(event.reason, domain::FinishReason::error, "finish reason");
    io.text(event.stop_string);
}

template <typename Io, Is<domain::Done> T>
void fields(Io& io, T& event) {
    io.number(event.usage.prompt_tokens);
    io.number(event.usage.cached_tokens);
    io.number(event.usage.completion_tokens);
    io.number(event.usage.left_out_tokens);
    io.number(event.usage.context_shifts);
    io.number(event.usage.shifted_tokens);
    io.number(event.timings.cache_n);
    io.number(event.timings.prompt_n);
    finite(io, event.timings.prompt_ms, "prompt_ms");
    io.number(event.timings.predicted_n);
    finite(io, event.timings.predicted_ms, "predicted_ms");
    finite(io, event.timings.queue_ms, "queue_ms");
    io.number(event.timings.draft_n);
    io.number(event.timings.draft_n_accepted);
    context(io, event.context);
}

template <typename Io, Is<domain::Failed> T>
void fields(Io& io, T& event) {
    fields(io, event.error);
}

template <typename Io, Is<domain::Embedded> T>
void fields(Io& io, T& event) {
    io.list(event.vectors, domain::kEmbedInputsMax, kStringBytes, "number of vectors", [](auto& inner, auto& vector) {
        inner.list(vector, domain::kEmbeddingWidthMax, sizeof(float), "width of a vector",
                   [](auto& innermost, auto& value) { finite(innermost, value, "vector"); });
    });
}

template <typename Io, Is<StepFrame::Entry> T>
void fields(Io& io, T& entry) {
    request_id(io, entry.id);
    io.variant(entry.event, "kind of event", [](auto& inner, auto& event) { fields(inner, event); });
}

// --- frames ---

template <typename Io, Is<SubmitFrame> T>
void fields(Io& io, T& frame) {
    request_id(io, frame.id);
    fields(io, frame.request);
}

template <typename Io, Is<CancelFrame> T>
void fields(Io& io, T& frame) {
    request_id(io, frame.id);
}

template <typename Io, Is<GrantFrame> T>
void fields(Io& io, T& frame) {
    request_id(io, frame.id);
    io.number(frame.tokens);
    io.check(frame.tokens > 0, "grant of 0 tokens");
}

template <typename Io, Is<PingFrame> T>
void fields(Io& io, T& frame) {
    io.number(frame.nonce);
}

template <typename Io, typename T>
    requires Is<T, CloseFrame> || Is<T, ParkFrame> || Is<T, WakeFrame>
void fields(Io&, T&) {}

template <typename Io, Is<LoadingFrame> T>
void fields(Io& io, T& frame) {
    io.number(frame.progress);
    io.check(frame.progress >= 0 && frame.progress <= 1, "progress");  // false for NaN too
}

template <typename Io, Is<ReadyFrame> T>
void fields(Io& io, T& frame) {
    auto& info = frame.info;
    io.text(info.architecture);
    io.text(info.name);
    io.text(info.quantization);
    io.text(info.cpu_variant);
    io.text(info.isolation);
    io.number(info.parameters);
    io.number(info.file_bytes);
    io.number(info.vocabulary);
    io.number(info.embedding);
    io.number(info.context_train);
    io.number(info.context_request);
    io.number(info.kv_cells);
    io.number(info.sequences_max);
    io.number(info.threads);
    io.number(info.memory_bytes);
    io.number(info.kv_bytes);
    io.number(info.resident_bytes);
    io.number(info.shared_bytes);
    io.flag(info.chat_template);
    io.flag(info.generates);
    io.flag(info.infills);
    io.flag(info.embeds);
    io.flag(info.ranks);
    io.number(info.embed_tokens_max);
    io.enumeration(info.determinism, domain::Determinism::always, "determinism");
}

template <typename Io, Is<LoadFailedFrame> T>
void fields(Io& io, T& frame) {
    fields(io, frame.error);
}

template <typename Io, Is<StepFrame> T>
void fields(Io& io, T& frame) {
    io.check(Io::kReads || !frame.entries.empty(), "empty step");
    io.list(frame.entries, kFrameBytesMax / kEntryBytes, kEntryBytes, "number of events",
            [](auto& inner, auto& entry) { fields(inner, entry); });
    io.check(!frame.entries.empty(), "empty step");
}

template <typename Io, Is<PongFrame> T>
void fields(Io& io, T& frame) {
    io.number(frame.nonce);
    io.number(frame.heartbeat);
    auto& stats = frame.stats;
    for (auto* gauge : {&stats.running, &stats.waiting, &stats.kv_used, &stats.kv_cached, &stats.kv_cells})
        io.number(*gauge);
    for (auto* total :
         {&stats.steps_total, &stats.prompt_tokens_total, &stats.generated_tokens_total, &stats.preemptions_total,
          &stats.drafted_total, &stats.accepted_total, &stats.model_drafted_total, &stats.model_accepted_total,
          &stats.draft_us_total, &stats.tier_memory_bytes, &stats.tier_disk_bytes, &stats.tier_memory_tokens_total,
          &stats.tier_disk_tokens_total, &stats.tier_written_bytes_total, &stats.tier_errors_total, &stats.rss_bytes,
          &stats.cpu_ms_total})
        io.number(*total);
    io.number(stats.swapped);
    io.number(stats.prefix_nodes);
    io.number(stats.evictions_total);
    io.number(stats.step_us_total);
    io.number(stats.interruptions_total);
    io.number(stats.shifts_total);
    io.number(stats.shifted_tokens_total);
}

template <typename Io, Is<AskReportFrame> T>
void fields(Io& io, T& frame) {
    io.number(frame.nonce);
}

template <typename Io, typename T>
    requires Is<T, LimitCacheFrame> || Is<T, ParkedFrame>
void fields(Io& io, T& frame) {
    io.number(frame.bytes);
}

template <typename Io, Is<ReportFrame> T>
void fields(Io& io, T& frame) {
    io.number(frame.nonce);
    fields(io, frame.report);
}

template <typename Io, Is<LogFrame> T>
void fields(Io& io, T& frame) {
    io.number(frame.level);
    io.check(frame.level <= 3, "log level");
    io.text(frame.text, kLogBytesMax, "length of a log line");
}

template <typename T>
constexpr Type kTypeOf = Type{};
template <>
constexpr Type kTypeOf<SubmitFrame> = Type::submit;
template <>
constexpr Type kTypeOf<CancelFrame> = Type::cancel;
template <>
constexpr Type kTypeOf<GrantFrame> = Type::grant;
template <>
constexpr Type kTypeOf<PingFrame> = Type::ping;
template <>
constexpr Type kTypeOf<CloseFrame> = Type::close;
template <>
constexpr Type kTypeOf<LoadingFrame> = Type::loading;
template <>
constexpr Type kTypeOf<ReadyFrame> = Type::ready;
template <>
constexpr Type kTypeOf<LoadFailedFrame> = Type::load_failed;
template <>
constexpr Type kTypeOf<StepFrame> = Type::step;
template <>
constexpr Type kTypeOf<PongFrame> = Type::pong;
template <>
constexpr Type kTypeOf<LogFrame> = Type::log;
template <>
constexpr Type kTypeOf<AskReportFrame> = Type::ask_report;
template <>
constexpr Type kTypeOf<LimitCacheFrame> = Type::limit_cache;
template <>
constexpr Type kTypeOf<ReportFrame> = Type::report;
template <>
constexpr Type kTypeOf<ParkFrame> = Type::park;
template <>
constexpr Type kTypeOf<WakeFrame> = Type::wake;
template <>
constexpr Type kTypeOf<ParkedFrame> = Type::parked;

// An empty frame of that type; nothing for an unknown one.
template <std::size_t I = 0>
std::optional<Frame> make_frame(std::uint8_t type) {
    if constexpr (I < std::variant_size_v<Frame>) {
        using T = std::variant_alternative_t<I, Frame>;
        if (type == static_cast<std::uint8_t>(kTypeOf<T>)) return Frame(std::in_place_index<I>);
        return make_frame<I + 1>(type);
    } else {
        return std::nullopt;
    }
}

bool is_known(std::uint8_t type) {
    return (type >= static_cast<std::uint8_t>(Type::submit) && type <= static_cast<std::uint8_t>(Type::wake)) ||
           (type >= static_cast<std::uint8_t>(Type::loading) && type <= static_cast<std::uint8_t>(Type::parked));
}

void write_header(ByteWriter& out, Type type) {
    out.write<std::uint32_t>(0);  // the length, patched when it is known
    out.write(kFrameVersion);
    out.write(static_cast<std::uint8_t>(type));
}

Error corrupt(std::string message) { return {Code::corrupt, std::move(message)}; }

std::string wrong_version(std::uint16_t version) {
    return fmt::format("worker frame has version {}, this build speaks version {}", version, kFrameVersion);
}

std::string unknown_type(std::uint8_t type) { return fmt::format("worker frame has unknown type {}", type); }

}  // namespace

Result<std::string> encode(Frame const& frame) {
    ByteWriter out;
    FieldWriter writer(out);
    std::visit(
        [&]<typename T>(T const& value) {
            write_header(out, kTypeOf<T>);
            fields(writer, value);
        },
        frame);
    if (writer.problem() != nullptr) {
        return Error(Code::invalid_argument,
                     fmt::format("a worker frame cannot carry this value: {}", writer.problem()), writer.problem());
    }
    auto const length = out.size() - kLengthBytes;
    if (length > kFrameBytesMax) {
        return Error(Code::too_large,
                     fmt::format("a worker frame of {} bytes is above the limit of {}", length, kFrameBytesMax));
    }
    out.patch_u32(0, static_cast<std::uint32_t>(length));
    return std::move(out).take();
}

Result<Frame> decode(std::string_view body) {
    ByteReader header(body);
    auto const version = header.read<std::uint16_t>();
    auto const type = header.read<std::uint8_t>();
    if (!header.ok())
        return corrupt(
            fmt::format("worker frame of {} bytes is shorter than its header of {}", body.size(), kHeaderBytes));
    if (version != kFrameVersion) return corrupt(wrong_version(version));
    auto frame = make_frame(type);
    if (!frame) return corrupt(unknown_type(type));

    FieldReader reader(body.substr(kHeaderBytes));
    std::visit([&](auto& value) { fields(reader, value); }, *frame);
    if (reader.problem() != nullptr)
        return corrupt(fmt::format("worker frame of type {} has a bad {}", type, reader.problem()));
    if (!reader.ok())
        return corrupt(fmt::format("worker frame of type {} and {} bytes ends too early", type, body.size()));
    if (reader.left() != 0)
        return corrupt(fmt::format("worker frame of type {} has {} bytes too many", type, reader.left()));
    return *std::move(frame);
}

StepEncoder::StepEncoder() { clear(); }

void StepEncoder::add(RequestId id, domain::Event const& event) {
    HEARTH_ASSERT(id != 0, "an event belongs to a request");
    FieldWriter writer(out_);
    writer.number(id);
    writer.variant(event, "kind of event", [](auto& inner, auto& alternative) { fields(inner, alternative); });
    HEARTH_ASSERT(writer.problem() == nullptr, "the engine emits events within the limits of domain/generate.h");
    ++entries_;
}

std::string_view StepEncoder::finish() {
    HEARTH_ASSERT(entries_ > 0, "a Step frame is never empty");
    auto const length = out_.size() - kLengthBytes;
    HEARTH_ASSERT(length <= kWorkerFrameBytesMax, "one step's events fit a frame; see kStepFrameBytes");
    out_.patch_u32(0, static_cast<std::uint32_t>(length));
    out_.patch_u32(kStepCountAt, entries_);
    return out_.bytes();
}

void StepEncoder::clear() {
    out_.clear();
    entries_ = 0;
    write_header(out_, Type::step);
    out_.write_count(0);
}

void FrameReader::push(std::string_view bytes) {
    if (failed_) return;
    if (consumed_ == buffer_.size()) {
        // A rare large frame must not keep its memory for ever.
        if (buffer_.capacity() > kStepFrameBytes) buffer_ = {};
        buffer_.clear();
    } else if (consumed_ > 0) {
        buffer_.erase(0, consumed_);
    }
    consumed_ = 0;
    buffer_.append(bytes);
}

Result<std::optional<Frame>> FrameReader::next() {
    if (failed_) return corrupt("the connection carried a broken frame before");
    auto const rest = std::string_view(buffer_).substr(consumed_);
    ByteReader header(rest);
    if (header.left() < kLengthBytes) return std::optional<Frame>();
    auto const length = header.read<std::uint32_t>();
    if (length < kHeaderBytes || length > frame_bytes_max_) {
        return fail(
            fmt::format("worker frame claims {} bytes, allowed are {} to {}", length, kHeaderBytes, frame_bytes_max_));
    }
    if (header.left() >= kHeaderBytes) {
        auto const version = header.read<std::uint16_t>();
        if (version != kFrameVersion) return fail(wrong_version(version));
        auto const type = header.read<std::uint8_t>();
        if (!is_known(type)) return fail(unknown_type(type));
    }
    if (rest.size() - kLengthBytes < length) return std::optional<Frame>();
    auto frame = decode(rest.substr(kLengthBytes, length));
    if (!frame) return fail(std::move(frame.error().message));
    consumed_ += kLengthBytes + length;
    return std::optional<Frame>(*std::move(frame));
}

Error FrameReader::fail(std::string message) {
    failed_ = true;
    buffer_ = {};
    consumed_ = 0;
    return corrupt(std::move(message));
}

}  // namespace hearth::serving
