#include "llama/scripted_backend.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "llama/chat_template.h"

namespace hearth::llama {
namespace {

constexpr std::uint32_t kByteTokens = 256;
constexpr std::uint32_t kEmbedding = 16;
constexpr std::uint32_t kBlobMagic = 0x53424c42;
constexpr std::uint32_t kAdaptersShift = 24;  // in a blob they stand above the place in the script
constexpr float kWinnerLogit = 20.0F;
constexpr float kOtherLogitsBelow = 4.0F;
constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>";
constexpr std::array<std::string_view, 4> kRoles{"system", "user", "assistant", "tool"};

// One position of a sequence: which cell holds it, and where in the script it
// stands (-1: inside a prompt).
struct Slot {
    Token token;
    std::int32_t script_index;
    std::uint32_t cell;
    std::uint32_t adapters = 0;  // the set it was computed with
};

std::uint64_t mix(std::uint64_t x) {  // splitmix64
    x += 0x9E3779B97F4A7C15U;
    x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
    return x ^ (x >> 31U);
}

// Cells with their owner counts; a cell is free at zero.
class CellPool {
public:
    explicit CellPool(std::uint32_t count) : owners_(count, 0), free_(count) {
        for (std::uint32_t i = 0; i < count; ++i) free_[i] = count - 1 - i;
    }

    [[nodiscard]] std::size_t free() const { return free_.size(); }
    [[nodiscard]] std::uint32_t used() const { return static_cast<std::uint32_t>(owners_.size() - free_.size()); }

    std::uint32_t take() {
        HEARTH_ASSERT(!free_.empty(), "the caller counted the free cells");
        std::uint32_t const cell = free_.back();
        free_.pop_back();
        owners_[cell] = 1;
        return cell;
    }
    void share(std::uint32_t cell) { ++owners_[cell]; }
    void drop(std::uint32_t cell) {
        HEARTH_ASSERT(owners_[cell] > 0, "a cell is dropped once per owner");
        if (--owners_[cell] == 0) free_.push_back(cell);
    }

private:
    std::vector<std::uint32_t> owners_;
    std::vector<std::uint32_t> free_;
};

class Scripted final : public ScriptedBackend {
public:
    explicit Scripted(ScriptedOptions options)
        : options_(std::move(options)),
          cells_(options_.kv_cells),
          sequences_(options_.sequences_max + options_.sequences_kept),
          stateless_(sequences_.size(), false) {
        for (auto const& piece : options_.pieces) script_.push_back(token_of_piece(piece));
        start_token_ = static_cast<Token>(kByteTokens + pieces_.size());
        end_token_ = start_token_ + 1;
        fill_properties();
        for (std::uint32_t id = 0; id < properties_.vocabulary; ++id) {
            spread_.push_back(static_cast<float>(mix(id) >> 40U) * 0x1p-24F * kOtherLogitsBelow);
        }
    }

    [[nodiscard]] Properties const& properties() const override { return properties_; }
    [[nodiscard]] Result<std::vector<Token>> tokenize(std::string_view text, TokenizeOptions options) const override;
    [[nodiscard]] Result<std::vector<Token>> tokenize_infill(std::string_view prefix,
                                                             std::string_view suffix) const override;
    void append_piece(Token token, std::string& out) const override;
    void append_spelling(Token token, std::string& out) const override;
    [[nodiscard]] Result<std::vector<Token>> tokenize_pair(domain::RankPair const& pair) const override;
    [[nodiscard]] bool is_end_of_generation(Token token) const override { return token == end_token_; }
    [[nodiscard]] Result<RenderedChat> render_chat(domain::ChatPrompt const& prompt) const override;

    [[nodiscard]] Status use_adapters(std::uint32_t set) override;
    [[nodiscard]] Status decode(std::span<BatchEntry const> batch) override;
    void heed(std::atomic<bool> const& stop) override { stop_ = &stop; }
    [[nodiscard]] std::span<float const> logits(std::size_t index) const override;
    [[nodiscard]] Status copy_sequence(SequenceId from, SequenceId to, Position end,
                                       std::span<std::byte const> checkpoint) override;
    [[nodiscard]] Result<std::vector<std::byte>> checkpoint(SequenceId sequence) override;
    [[nodiscard]] Status remove(SequenceId sequence, Position begin) override;
    [[nodiscard]] Result<std::vector<std::byte>> save(SequenceId sequence) override;
    [[nodiscard]] Status restore(SequenceId sequence, std::span<std::byte const> blob) override;
    [[nodiscard]] Result<std::vector<std::vector<float>>> embed(std::span<std::vector<Token> const> inputs) override;
    [[nodiscard]] Result<std::vector<std::byte>> save_part(SequenceId sequence, Position begin, Position end) override;
    [[nodiscard]] Status append_part(SequenceId sequence, std::span<std::byte const> blob, Position end) override;
    [[nodiscard]] Status resume(SequenceId sequence, std::span<std::byte const> checkpoint) override;
    [[nodiscard]] std::string const& state_key() const override { return state_key_; }
    [[nodiscard]] MemoryEstimate memory() const override;
    [[nodiscard]] Status park() override;
    [[nodiscard]] Status wake() override;

    [[nodiscard]] std::uint32_t cells_used() const override { return cells_.used(); }
    [[nodiscard]] std::uint32_t sequences_used() const override;
    [[nodiscard]] std::vector<Token> sequence_tokens(SequenceId sequence) const override;

private:
    Token token_of_piece(std::string const& piece);
    void fill_properties();
    void append_text(std::string_view text, std::vector<Token>& out) const;
    [[nodiscard]] Status check_sequence(SequenceId sequence) const;
    [[nodiscard]] Status check_batch(std::span<BatchEntry const> batch) const;
    [[nodiscard]] bool is_text(Token token) const {
        return token < static_cast<Token>(kByteTokens) || token >= start_token_;
    }
    [[nodiscard]] std::vector<std::byte> blob_of(std::span<Slot const> part, std::uint32_t begin) const;
    [[nodiscard]] Result<std::pair<std::uint32_t, std::vector<Slot>>> slots_of(std::span<std::byte const> blob) const;
    [[nodiscard]] std::vector<std::byte> checkpoint_of(std::span<Slot const> slots) const;
    [[nodiscard]] Token winner(std::int32_t script_index) const;
    void write_logits(std::int32_t script_index);
    std::vector<Slot>& slots(SequenceId sequence) { return sequences_[static_cast<std::size_t>(sequence)]; }

    ScriptedOptions options_;
    std::vector<std::string> pieces_;  // distinct
    std::vector<Token> script_;
    Token start_token_ = 0;
    Token end_token_ = 0;
    Properties properties_;
    std::string state_key_;
    std::vector<float> spread_;

    CellPool cells_;
    std::vector<std::vector<Slot>> sequences_;
    std::vector<bool> stateless_;              // per sequence: slots came back, the state not yet
    std::uint64_t decodes_ = 0;
    bool parked_ = false;
    std::uint32_t adapters_ = 0;               // the set in use
    std::atomic<bool> const* stop_ = nullptr;
    std::vector<float> logits_;                // rows of the last batch, one after another
    std::vector<std::int64_t> row_of_entry_;   // -1: the entry wanted none
};

Token Scripted::token_of_piece(std::string const& piece) {
    auto at = std::find(pieces_.begin(), pieces_.end(), piece);
    if (at == pieces_.end()) at = pieces_.insert(at, piece);
    return static_cast<Token>(kByteTokens + (at - pieces_.begin()));
}

void Scripted::fill_properties() {
    auto const vocabulary = static_cast<std::uint32_t>(end_token_ + 1);
    auto& info = properties_.info;
    info.architecture = "scripted";
    info.name = "scripted";
    info.quantization = "none";
    info.cpu_variant = "none";
    info.vocabulary = vocabulary;
    info.embedding = kEmbedding;
    info.context_train = std::max(options_.context_train, options_.context_request);
    info.context_request = options_.context_request;
    info.kv_cells = options_.kv_cells;
    info.sequences_max = options_.sequences_max;
    info.threads = 1;
    info.chat_template = options_.chat_template;
    info.generates = options_.generates;
    info.infills = options_.infills && options_.generates;
    info.embeds = !options_.generates && !options_.ranks;
    info.ranks = options_.ranks;
    info.embed_tokens_max = options_.context_request;
    info.determinism = options_.determinism;
    properties_.batch_max = options_.batch_max;
    properties_.sequences_max = options_.sequences_max + options_.sequences_kept;
    properties_.kv_cells = options_.kv_cells;
    properties_.vocabulary = vocabulary;
    properties_.needs_checkpoints = options_.needs_checkpoints;
    properties_.can_share_cells = properties_.can_truncate = !options_.needs_checkpoints;
    properties_.saves_parts = true;
    properties_.can_interrupt = options_.can_interrupt;
    properties_.mixing_saves_nothing = options_.mixing_saves_nothing;
    state_key_ = fmt::format("scripted {}", vocabulary);
    for (std::uint32_t set = 1; set <= options_.adapters; ++set)
        properties_.adapters.push_back(fmt::format("set {}", set));
    for (auto const& piece : pieces_) state_key_ += fmt::format(" {}:{}", piece.size(), piece);
    info.memory_bytes = memory().weights + memory().kv + memory().scratch;
}

void Scripted::append_text(std::string_view text, std::vector<Token>& out) const {
    for (char const c : text) out.push_back(static_cast<std::uint8_t>(c));
}

Result<std::vector<Token>> Scripted::tokenize(std::string_view text, TokenizeOptions options) const {
    if (text.size() > domain::kPromptBytesMax) {
        return Error(Code::too_large,
                     fmt::format("the text has {} bytes, the limit is {}", text.size(), domain::kPromptBytesMax));
    }
    std::vector<Token> tokens;
    tokens.reserve(text.size());
    while (!text.empty()) {
        if (options.parse_special && text.starts_with(kStart)) {
            tokens.push_back(start_token_);
            text.remove_prefix(kStart.size());
        } else if (options.parse_special && text.starts_with(kEnd)) {
            tokens.push_back(end_token_);
            text.remove_prefix(kEnd.size());
        } else {
            append_text(text.substr(0, 1), tokens);
            text.remove_prefix(1);
        }
    }
    return tokens;
}

Result<std::vector<Token>> Scripted::tokenize_infill(std::string_view prefix, std::string_view suffix) const {
    if (!options_.infills)
        return Error(Code::unsupported, "the model's vocabulary has no tokens for filling in the middle", "suffix");
    HEARTH_TRY(auto tokens, tokenize(prefix, {}));
    HEARTH_TRY(auto const behind, tokenize(suffix, {}));
    tokens.insert(tokens.begin(), start_token_);
    tokens.push_back(start_token_);
    tokens.insert(tokens.end(), behind.begin(), behind.end());
    tokens.push_back(start_token_);
    return tokens;
}

Result<std::vector<Token>> Scripted::tokenize_pair(domain::RankPair const& pair) const {
    if (!options_.ranks) return Backend::tokenize_pair(pair);
    std::vector<Token> tokens;
    append_text(pair.query, tokens);
    tokens.push_back(end_token_);
    append_text(pair.document, tokens);
    return tokens;
}

void Scripted::append_piece(Token token, std::string& out) const {
    if (token < 0 || token >= start_token_) return;
    auto const id = static_cast<std::uint32_t>(token);
    if (id < kByteTokens) {
        out.push_back(static_cast<char>(id));
    } else {
        out += pieces_[id - kByteTokens];
    }
}

void Scripted::append_spelling(Token token, std::string& out) const {
    if (token == start_token_) out += kStart;
    else if (token == end_token_) out += kEnd;
    else append_piece(token, out);
}

Result<RenderedChat> Scripted::render_chat(domain::ChatPrompt const& prompt) const {
    if (!prompt.jinja.empty()) {
        HEARTH_TRY(auto const brought, ChatTemplate::create(prompt.jinja, "", ""));
        HEARTH_TRY(auto rendered, brought.render(prompt));
        RenderedChat chat{std::move(rendered.text), {}, brought.additional_stops()};
        append_text(chat.text, chat.tokens);
        return chat;
    }
    if (!options_.chat_template) return Error(Code::unsupported, "the model has no chat template", "messages");
    RenderedChat chat;
    auto const open = [&](std::string_view role) {
        chat.text += fmt::format("{}{}\n", kStart, role);
        chat.tokens.push_back(start_token_);
        append_text(role, chat.tokens);
        append_text("\n", chat.tokens);
    };
    for (auto const& message : prompt.messages) {
        if (std::find(kRoles.begin(), kRoles.end(), message.role) == kRoles.end()) {
            return Error(Code::invalid_argument, fmt::format("the chat template knows no role '{}'", message.role),
                         "messages");
        }
        open(message.role);
        chat.text += fmt::format("{}{}\n", message.content, kEnd);
        append_text(message.content, chat.tokens);
        chat.tokens.push_back(end_token_);
        append_text("\n", chat.tokens);
    }
    if (prompt.add_generation_prompt) open("assistant");
    return chat;
}

Status Scripted::check_sequence(SequenceId sequence) const {
    if (sequence >= 0 && static_cast<std::size_t>(sequence) < sequences_.size()) return ok();
    return Error(Code::invalid_argument,
                 fmt::format("sequence {} does not exist, there are {}", sequence, sequences_.size()));
}

Status Scripted::check_batch(std::span<BatchEntry const> batch) const {
    if (batch.empty() || batch.size() > options_.batch_max) {
        return Error(Code::invalid_argument,
                     fmt::format("a batch of {} entries, the limits are 1 and {}", batch.size(), options_.batch_max));
    }
    std::vector<Position> next(sequences_.size());
    for (std::size_t i = 0; i < sequences_.size(); ++i) next[i] = static_cast<Position>(sequences_[i].size());
    for (auto const& entry : batch) {
        HEARTH_CHECK(check_sequence(entry.sequence));
        if (stateless_[static_cast<std::size_t>(entry.sequence)])
            return Error(Code::invalid_argument, fmt::format("sequence {} has no state", entry.sequence));
        auto const& before = sequences_[static_cast<std::size_t>(entry.sequence)];
        if (!before.empty() && before.back().adapters != adapters_)
            return Error(Code::invalid_argument, fmt::format("sequence {} was computed with set {} of adapters, not {}",
                                                             entry.sequence, before.back().adapters, adapters_));
        if (entry.token < 0 || static_cast<std::uint32_t>(entry.token) >= properties_.vocabulary) {
            return Error(Code::invalid_argument,
                         fmt::format("token {} is outside the vocabulary of {}", entry.token, properties_.vocabulary));
        }
        auto& expected = next[static_cast<std::size_t>(entry.sequence)];
        if (entry.position != expected) {
            return Error(Code::invalid_argument, fmt::format("sequence {} goes on at position {}, got {}",
                                                             entry.sequence, expected, entry.position));
        }
        ++expected;
        if (static_cast<std::uint32_t>(expected) > properties_.info.context_train) {
            return Error(Code::invalid_argument, fmt::format("sequence {} grows beyond {} tokens", entry.sequence,
                                                             properties_.info.context_train));
        }
    }
    return ok();
}

Token Scripted::winner(std::int32_t script_index) const {
    auto const index = static_cast<std::size_t>(script_index);
    if (index < script_.size()) return script_[(index + adapters_) % script_.size()];
    if (options_.repeat && !script_.empty()) return script_[index % script_.size()];
    return end_token_;
}

void Scripted::write_logits(std::int32_t script_index) {
    std::size_t const begin = logits_.size();
    logits_.insert(logits_.end(), spread_.begin(), spread_.end());
    logits_[begin + static_cast<std::size_t>(winner(script_index))] = kWinnerLogit;
}

Status Scripted::use_adapters(std::uint32_t set) {
    if (set > options_.adapters)
        return Error(Code::invalid_argument,
                     fmt::format("there is no set {} of adapters, the model has {}", set, options_.adapters));
    adapters_ = set;
    return ok();
}

Status Scripted::decode(std::span<BatchEntry const> batch) {
    HEARTH_ASSERT(!parked_, "what is parked computes nothing");
    HEARTH_CHECK(check_batch(batch));
    std::uint64_t const index = decodes_++;
    if (options_.before_decode) HEARTH_CHECK(options_.before_decode(index));
    if (options_.can_interrupt && stop_ != nullptr && stop_->load())
        return Error(Code::cancelled, fmt::format("decoding {} tokens was stopped", batch.size()));
    if (batch.size() > cells_.free()) {
        return Error(Code::overloaded, fmt::format("the batch needs {} cells, {} of {} are free", batch.size(),
                                                   cells_.free(), options_.kv_cells));
    }
    logits_.clear();
    row_of_entry_.assign(batch.size(), -1);
    std::int64_t rows = 0;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        auto const& entry = batch[i];
        auto& slots = this->slots(entry.sequence);
        bool const is_prompt = is_text(entry.token) && (slots.empty() || is_text(slots.back().token));
        std::int32_t const script_index = is_prompt || slots.empty() ? 0 : slots.back().script_index + 1;
        slots.push_back({entry.token, script_index, cells_.take(), adapters_});
        if (!entry.wants_logits) continue;
        row_of_entry_[i] = rows++;
        write_logits(script_index);
    }
    return ok();
}

std::span<float const> Scripted::logits(std::size_t index) const {
    HEARTH_ASSERT(index < row_of_entry_.size() && row_of_entry_[index] >= 0, "the entry wanted logits");
    auto const row = static_cast<std::size_t>(row_of_entry_[index]);
    return std::span(logits_).subspan(row * properties_.vocabulary, properties_.vocabulary);
}

// A hash of the tokens: it fits no other sequence.
Result<std::vector<std::byte>> Scripted::checkpoint(SequenceId sequence) {
    HEARTH_CHECK(check_sequence(sequence));
    return checkpoint_of(slots(sequence));
}

std::vector<std::byte> Scripted::checkpoint_of(std::span<Slot const> slots) const {
    std::uint64_t hash = mix(slots.size());
    for (auto const& slot : slots) hash = mix(hash ^ static_cast<std::uint32_t>(slot.token) ^ slot.adapters);
    auto const bytes = std::as_bytes(std::span(&hash, 1));
    return {bytes.begin(), bytes.end()};
}

Status Scripted::copy_sequence(SequenceId from, SequenceId to, Position end, std::span<std::byte const> checkpoint) {
    HEARTH_CHECK(check_sequence(from));
    HEARTH_CHECK(check_sequence(to));
    auto const& source = slots(from);
    auto& target = slots(to);
    if (stateless_[static_cast<std::size_t>(from)])
        return Error(Code::invalid_argument, fmt::format("sequence {} has no state", from));
    if (!target.empty() || from == to)
        return Error(Code::invalid_argument, fmt::format("sequence {} is not empty", to));
    if (end < 0 || static_cast<std::size_t>(end) > source.size()) {
        return Error(Code::invalid_argument,
                     fmt::format("sequence {} has {} positions, cannot copy {}", from, source.size(), end));
    }
    bool const part = end > 0 && static_cast<std::size_t>(end) < source.size();
    if (options_.needs_checkpoints && part) {
        if (checkpoint.empty())
            return Error(Code::unsupported, fmt::format("a copy of {} of {} needs a checkpoint", end, source.size()));
        if (!std::ranges::equal(checkpoint_of(std::span(source).first(static_cast<std::size_t>(end))), checkpoint))
            return Error(Code::corrupt, fmt::format("the checkpoint is not of these {} positions", end));
    }
    target.assign(source.begin(), source.begin() + end);
    for (auto const& slot : target) cells_.share(slot.cell);
    return ok();
}

Status Scripted::remove(SequenceId sequence, Position begin) {
    HEARTH_CHECK(check_sequence(sequence));
    if (begin < 0) return Error(Code::invalid_argument, fmt::format("cannot remove from position {}", begin));
    auto& slots = this->slots(sequence);
    if (options_.needs_checkpoints && begin > 0 && static_cast<std::size_t>(begin) < slots.size())
        return Error(Code::unsupported, fmt::format("cannot go back from {} to {}", slots.size(), begin));
    if (begin == 0) stateless_[static_cast<std::size_t>(sequence)] = false;
    while (slots.size() > static_cast<std::size_t>(begin)) {
        cells_.drop(slots.back().cell);
        slots.pop_back();
    }
    return ok();
}

Result<std::vector<std::byte>> Scripted::save(SequenceId sequence) {
    HEARTH_CHECK(check_sequence(sequence));
    return blob_of(slots(sequence), 0);
}

Result<std::vector<std::byte>> Scripted::save_part(SequenceId sequence, Position begin, Position end) {
    HEARTH_CHECK(check_sequence(sequence));
    auto const& all = slots(sequence);
    if (begin < 0 || begin >= end || static_cast<std::size_t>(end) > all.size())
        return Error(Code::invalid_argument,
                     fmt::format("sequence {} has {} positions, not {} to {}", sequence, all.size(), begin, end));
    return blob_of(std::span(all).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
                   static_cast<std::uint32_t>(begin));
}

std::vector<std::byte> Scripted::blob_of(std::span<Slot const> part, std::uint32_t begin) const {
    ByteWriter writer;
    writer.write(kBlobMagic);
    writer.write(properties_.vocabulary);
    writer.write(begin);
    writer.write_count(part.size());
    for (auto const& slot : part) {
        writer.write(slot.token);
        writer.write(static_cast<std::uint32_t>(slot.script_index) | slot.adapters << kAdaptersShift);
    }
    auto const bytes = std::as_bytes(std::span(writer.bytes()));
    return {bytes.begin(), bytes.end()};
}

// Slots without cells, and where they begin.
Result<std::pair<std::uint32_t, std::vector<Slot>>> Scripted::slots_of(std::span<std::byte const> blob) const {
    ByteReader reader(blob);
    bool const ours =
        reader.read<std::uint32_t>() == kBlobMagic && reader.read<std::uint32_t>() == properties_.vocabulary;
    auto const begin = reader.read<std::uint32_t>();
    std::uint32_t const count = reader.read_count(sizeof(Token) + sizeof(std::int32_t));
    std::vector<Slot> restored;
    for (std::uint32_t i = 0; i < count; ++i) {
        auto const token = reader.read<Token>();
        auto const place = reader.read<std::uint32_t>();
        auto const script_index = static_cast<std::int32_t>(place & ((1U << kAdaptersShift) - 1));
        restored.push_back({token, script_index, 0, place >> kAdaptersShift});
    }
    if (!ours || !reader.ok() || reader.left() > 0 || std::uint64_t{begin} + count > properties_.info.context_train) {
        return Error(Code::corrupt, fmt::format("{} bytes are no state of this model's sequences", blob.size()));
    }
    if (count > cells_.free()) {
        return Error(Code::overloaded, fmt::format("the sequence needs {} cells, {} of {} are free", count,
                                                   cells_.free(), options_.kv_cells));
    }
    return std::pair(begin, std::move(restored));
}

Status Scripted::restore(SequenceId sequence, std::span<std::byte const> blob) {
    HEARTH_CHECK(check_sequence(sequence));
    if (!slots(sequence).empty())
        return Error(Code::invalid_argument, fmt::format("sequence {} is not empty", sequence));
    HEARTH_TRY(auto part, slots_of(blob));
    if (part.first != 0)
        return Error(Code::corrupt, fmt::format("the saved sequence lacks its first {} positions", part.first));
    for (auto& slot : part.second) slot.cell = cells_.take();
    slots(sequence) = std::move(part.second);
    return ok();
}

Status Scripted::append_part(SequenceId sequence, std::span<std::byte const> blob, Position end) {
    HEARTH_CHECK(check_sequence(sequence));
    HEARTH_TRY(auto part, slots_of(blob));
    auto& all = slots(sequence);
    auto const& [begin, more] = part;
    bool const goes_on = begin <= all.size() && end > 0 && static_cast<std::size_t>(end) > all.size() &&
                         static_cast<std::size_t>(end) <= begin + more.size();
    if (!goes_on)
        return Error(Code::invalid_argument, fmt::format("positions {} to {} do not take a sequence of {} to {}", begin,
                                                         begin + more.size(), all.size(), end));
    while (all.size() < static_cast<std::size_t>(end)) {
        auto slot = more[all.size() - begin];
        slot.cell = cells_.take();
        all.push_back(slot);
    }
    if (options_.needs_checkpoints) stateless_[static_cast<std::size_t>(sequence)] = true;
    return ok();
}

Status Scripted::resume(SequenceId sequence, std::span<std::byte const> checkpoint) {
    HEARTH_CHECK(check_sequence(sequence));
    stateless_[static_cast<std::size_t>(sequence)] = false;
    if (std::ranges::equal(checkpoint_of(slots(sequence)), checkpoint)) return ok();
    HEARTH_CHECK(remove(sequence, 0));
    return Error(Code::corrupt, fmt::format("the checkpoint is not of sequence {}", sequence));
}

Result<std::vector<std::vector<float>>> Scripted::embed(std::span<std::vector<Token> const> inputs) {
    std::vector<std::vector<float>> vectors;
    for (auto const& input : inputs) {
        if (input.empty()) return Error(Code::invalid_argument, "an input to embed has no tokens", "input");
        if (options_.ranks) {
            auto const middle = std::ranges::find(input, end_token_);
            if (middle == input.end()) return Error(Code::invalid_argument, "an input to rank is no pair", "input");
            auto const document = std::span(input).subspan(static_cast<std::size_t>(middle - input.begin()) + 1);
            auto const held = std::ranges::count_if(
                document, [&](Token token) { return std::find(input.begin(), middle, token) != middle; });
            vectors.push_back(
                {static_cast<float>(held) / static_cast<float>(std::max<std::size_t>(document.size(), 1))});
            continue;
        }
        auto& vector = vectors.emplace_back(kEmbedding, static_cast<float>(adapters_));
        for (Token const token : input) {
            for (std::uint32_t d = 0; d < kEmbedding; ++d) {
                auto const hash = mix((static_cast<std::uint64_t>(static_cast<std::uint32_t>(token)) << 8U) + d);
                vector[d] += (static_cast<float>(hash >> 40U) * 0x1p-23F - 1.0F) / static_cast<float>(input.size());
            }
        }
    }
    return vectors;
}

MemoryEstimate Scripted::memory() const {
    MemoryEstimate estimate;
    estimate.kv = std::uint64_t{options_.kv_cells} * sizeof(Slot);
    estimate.scratch = std::uint64_t{options_.batch_max} * properties_.vocabulary * sizeof(float);
    return estimate;
}

Status Scripted::park() {
    if (!options_.can_park) return Backend::park();
    for (SequenceId id = 0; id < static_cast<SequenceId>(sequences_.size()); ++id) HEARTH_CHECK(remove(id, 0));
    stop_ = nullptr;
    adapters_ = 0;
    parked_ = true;
    return ok();
}

Status Scripted::wake() {
    HEARTH_ASSERT(parked_, "what is woken was parked");
    if (!options_.can_wake) return Error(Code::overloaded, "it was told not to wake");
    parked_ = false;
    return ok();
}

std::uint32_t Scripted::sequences_used() const {
    return static_cast<std::uint32_t>(
        std::count_if(sequences_.begin(), sequences_.end(), [](auto const& s) { return !s.empty(); }));
}

std::vector<Token> Scripted::sequence_tokens(SequenceId sequence) const {
    HEARTH_ASSERT(check_sequence(sequence).has_value(), "the sequence exists");
    std::vector<Token> tokens;
    for (auto const& slot : sequences_[static_cast<std::size_t>(sequence)]) tokens.push_back(slot.token);
    return tokens;
}

}  // namespace

std::unique_ptr<ScriptedBackend> make_scripted(ScriptedOptions options) {
    HEARTH_ASSERT(options.sequences_max > 0 && options.batch_max > 0 && options.kv_cells > 0,
                  "a scripted backend has room");
    return std::make_unique<Scripted>(std::move(options));
}

}  // namespace hearth::llama
