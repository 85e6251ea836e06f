#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <numeric>

#include "base/assert.h"
#include "llama/compute_threads.h"
#include "llama/libllama_impl.h"
#include "llama/runtime.h"

namespace hearth::llama {

namespace {

std::uint32_t index_of(SequenceId sequence) { return static_cast<std::uint32_t>(sequence); }

}  // namespace

LibllamaBackend::LibllamaBackend(BackendParts parts)
    : parts_(std::move(parts)),
      embedder_(*parts_.model, parts_.pool.get(),
                {.input_max = parts_.embed_input_max,
                 .threads = parts_.properties.info.threads,
                 .ranks = parts_.properties.info.ranks}),
      ledger_(parts_.properties.sequences_max, parts_.properties.kv_cells),
      guarded_(parts_.properties.sequences_max, 0),
      stateless_(parts_.properties.sequences_max, false),
      added_(parts_.properties.sequences_max, 0) {
    std::size_t const size = parts_.properties.batch_max;
    participants_.reserve(parts_.properties.sequences_max);
    wants_logits_.reserve(size);
    tokens_.resize(size);
    positions_.resize(size);
    sequence_counts_.assign(size, 1);
    sequences_.resize(size);
    output_.resize(size);
    for (auto& sequence : sequences_) sequence_pointers_.push_back(&sequence);
    sequence_pointers_.push_back(nullptr);
    if (parts_.kind == MemoryKind::recurrent && parts_.properties.saves_parts && parts_.has_cells)
        parts_.properties.saves_parts = learn_no_state();
}

LibllamaBackend::~LibllamaBackend() = default;

// --- vocabulary ---

Result<std::vector<Token>> LibllamaBackend::tokenize(std::string_view text, TokenizeOptions options) const {
    return parts_.vocabulary->tokenize(text, options);
}

Result<std::vector<Token>> LibllamaBackend::tokenize_infill(std::string_view prefix, std::string_view suffix) const {
    return parts_.vocabulary->tokenize_infill(prefix, suffix);
}

Result<std::vector<Token>> LibllamaBackend::tokenize_pair(domain::RankPair const& pair) const {
    if (!parts_.properties.info.ranks)
        return Error(Code::unsupported,
                     fmt::format("this model ({}) does not rank documents", parts_.properties.info.architecture),
                     "model");
    return parts_.vocabulary->tokenize_pair(pair.query, pair.document, parts_.rank_template);
}

void LibllamaBackend::append_piece(Token token, std::string& out) const { parts_.vocabulary->append_piece(token, out); }

void LibllamaBackend::append_spelling(Token token, std::string& out) const {
    parts_.vocabulary->append_spelling(token, out);
}

bool LibllamaBackend::is_end_of_generation(Token token) const { return parts_.vocabulary->is_end_of_generation(token); }

// The model's own, or the one a request brings: the last of those stays parsed.
Result<std::shared_ptr<ChatTemplate const>> LibllamaBackend::template_of(std::string const& jinja) const {
    if (jinja.empty()) {
        if (!parts_.chat_template) return parts_.chat_template.error();
        return std::shared_ptr<ChatTemplate const>(std::shared_ptr<void>(), &*parts_.chat_template);
    }
    std::scoped_lock const lock(brought_mutex_);
    if (!brought_ || brought_source_ != jinja) {
        HEARTH_TRY(auto parsed,
                   ChatTemplate::create(jinja, parts_.vocabulary->bos_text(), parts_.vocabulary->eos_text()));
        brought_ = std::make_shared<ChatTemplate const>(std::move(parsed));
        brought_source_ = jinja;
    }
    return brought_;
}

Result<RenderedChat> LibllamaBackend::render_chat(domain::ChatPrompt const& prompt) const {
    HEARTH_TRY(auto const chat_template, template_of(prompt.jinja));
    HEARTH_TRY(RenderedText rendered, chat_template->render(prompt));

    // Most templates write BOS themselves, some leave it to the tokenizer: it must be there once.
    Vocabulary const& vocabulary = *parts_.vocabulary;
    std::string const& bos = vocabulary.bos_text();
    if (vocabulary.adds_bos() && !bos.empty() && !rendered.text.starts_with(bos)) {
        rendered.text.insert(0, bos);
        for (TextSpan& span : rendered.plain) {
            span.begin += bos.size();
            span.end += bos.size();
        }
    }
    std::string const& eos = vocabulary.eos_text();
    if (vocabulary.adds_eos() && !eos.empty() && !rendered.text.ends_with(eos)) rendered.text += eos;

    HEARTH_TRY(auto tokens, vocabulary.tokenize_marked(rendered.text, rendered.plain));
    return RenderedChat{std::move(rendered.text), std::move(tokens), chat_template->additional_stops()};
}

// --- checks ---

Status LibllamaBackend::check_generates() const {
    if (parts_.kind == MemoryKind::none)
        return Error(Code::unsupported,
                     fmt::format("{} models compute embeddings only", parts_.properties.info.architecture));
    return ok();
}

Status LibllamaBackend::check_sequence(SequenceId sequence, char const* param) const {
    if (sequence < 0 || index_of(sequence) >= ledger_.sequences())
        return Error(Code::invalid_argument,
                     fmt::format("sequence {} is outside 0..{}", sequence, ledger_.sequences() - 1), param);
    return ok();
}

Status LibllamaBackend::check_state(SequenceId sequence) const {
    if (!stateless_[index_of(sequence)]) return ok();
    return Error(Code::invalid_argument, fmt::format("sequence {} got its cells back, but no state", sequence),
                 "sequence");
}

// Also counts the entries of each participant into added_.
Status LibllamaBackend::check_batch(std::span<BatchEntry const> batch) {
    for (SequenceId const sequence : participants_) added_[index_of(sequence)] = 0;
    participants_.clear();
    Properties const& limits = parts_.properties;
    if (batch.empty() || batch.size() > limits.batch_max)
        return Error(Code::invalid_argument,
                     fmt::format("a batch has 1..{} entries, this one {}", limits.batch_max, batch.size()), "batch");
    for (BatchEntry const& entry : batch) {
        HEARTH_CHECK(check_sequence(entry.sequence, "sequence"));
        HEARTH_CHECK(check_state(entry.sequence));
        if (entry.token < 0 || entry.token >= static_cast<Token>(limits.vocabulary))
            return Error(Code::invalid_argument,
                         fmt::format("token {} is outside 0..{}", entry.token, limits.vocabulary - 1), "token");
        std::uint32_t& added = added_[index_of(entry.sequence)];
        auto const expected = ledger_.length(index_of(entry.sequence)) + added;
        if (entry.position < 0 || index_of(entry.position) != expected)
            return Error(
                Code::invalid_argument,
                fmt::format("sequence {} continues at position {}, not {}", entry.sequence, expected, entry.position),
                "position");
        if (added++ == 0) participants_.push_back(entry.sequence);
    }
    if (batch.size() > ledger_.free())
        return Error(Code::overloaded, fmt::format("the batch needs {} cells; {} of {} are free", batch.size(),
                                                   ledger_.free(), ledger_.cells()));
    return ok();
}

// Whether the state after only the first `length` positions can still be had.
bool LibllamaBackend::can_go_back(SequenceId sequence, std::uint32_t length) const {
    if (length == 0 || length == ledger_.length(index_of(sequence))) return true;
    switch (parts_.kind) {
        case MemoryKind::attention: return true;
        case MemoryKind::window: {
            auto const oldest = llama_memory_seq_pos_min(cache(), sequence);
            auto const needed = length > parts_.window ? static_cast<llama_pos>(length - parts_.window) : 0;
            return oldest >= 0 && oldest <= needed;
        }
        case MemoryKind::recurrent:
        case MemoryKind::none: return false;
    }
    return false;
}

// --- computing ---

Status LibllamaBackend::use_adapters(std::uint32_t set) {
    static AdapterHandles const none;
    if (set > parts_.adapters.size())
        return Error(Code::invalid_argument,
                     fmt::format("there is no set {} of adapters, the model has {}", set, parts_.adapters.size()),
                     "adapters");
    adapters_ = set == 0 ? &none : &parts_.adapters[set - 1];
    return ok();
}

void LibllamaBackend::fill_batch(std::span<BatchEntry const> batch) {
    wants_logits_.clear();
    for (std::size_t i = 0; i < batch.size(); ++i) {
        tokens_[i] = batch[i].token;
        positions_[i] = batch[i].position;
        sequences_[i] = batch[i].sequence;
        output_[i] = batch[i].wants_logits ? 1 : 0;
        wants_logits_.push_back(batch[i].wants_logits);
    }
}

// After a failed batch: what it added goes; a recurrent state that was already
// advanced cannot go back, so its sequence is emptied.
void LibllamaBackend::undo_batch() {
    wants_logits_.clear();
    for (SequenceId const sequence : participants_) {
        auto const length = ledger_.length(index_of(sequence));
        bool const untouched = llama_memory_seq_pos_max(cache(), sequence) == static_cast<llama_pos>(length) - 1;
        if (untouched) continue;
        if (length == 0 || !llama_memory_seq_rm(cache(), sequence, static_cast<llama_pos>(length), -1))
            forget(sequence);
    }
}

void LibllamaBackend::forget(SequenceId sequence) {
    llama_memory_seq_rm(cache(), sequence, -1, -1);
    if (guarded_[index_of(sequence)] > 0) llama_memory_seq_rm(cache(), guard_of(sequence), -1, -1);
    guarded_[index_of(sequence)] = 0;
    stateless_[index_of(sequence)] = false;
    ledger_.truncate(index_of(sequence), 0);
}

SequenceId LibllamaBackend::guard_of(SequenceId sequence) const {
    return sequence + static_cast<SequenceId>(ledger_.sequences());
}

// Upstream gives a cell that left the window of its only sequence to the next
// that looks for one, though others may want to stand on it later. It keeps what
// two sequences have: so each has a second one, which follows it before anything
// falls out of the window. (Some windows end at multiples of their length.)
void LibllamaBackend::guard(SequenceId sequence) {
    if (parts_.kind != MemoryKind::window) return;
    auto const window = std::max(parts_.window, 1U);
    auto const length = ledger_.length(index_of(sequence));
    auto& guarded = guarded_[index_of(sequence)];
    if (length - guarded < window / 2 && length / window == guarded / window) return;
    llama_memory_seq_cp(cache(), sequence, guard_of(sequence), static_cast<llama_pos>(guarded), -1);
    guarded = length;
}

Status LibllamaBackend::decode(std::span<BatchEntry const> batch) {
    HEARTH_CHECK(check_generates());
    HEARTH_CHECK(check_batch(batch));
    fill_batch(batch);
    llama_batch upstream_batch{};
    upstream_batch.n_tokens = static_cast<std::int32_t>(batch.size());
    upstream_batch.token = tokens_.data();
    upstream_batch.pos = positions_.data();
    upstream_batch.n_seq_id = sequence_counts_.data();
    upstream_batch.seq_id = sequence_pointers_.data();
    upstream_batch.logits = output_.data();

    ErrorCapture const capture;
    OnCpu const on_cpu(parts_.cpu);
    std::int32_t status = 0;
    std::string reason;
    operations_.store(0, std::memory_order_relaxed);
    try {
        if (adapters_ != nullptr) llama::use_adapters(*parts_.context, *adapters_);
        status = llama_decode(parts_.context.get(), upstream_batch);
    } catch (std::exception const& e) {
        status = -3;
        reason = e.what();
    }
    if (status == 0) {
        operations_whole_.store(operations_.load(std::memory_order_relaxed), std::memory_order_relaxed);
        for (SequenceId const sequence : participants_) {
            ledger_.append(index_of(sequence), added_[index_of(sequence)]);
            guard(sequence);
        }
        return ok();
    }
    undo_batch();
    if (status == 2) return Error(Code::cancelled, fmt::format("decoding {} tokens was stopped", batch.size()));
    if (status == 1)
        return Error(Code::overloaded, fmt::format("the cache has no place for a batch of {}", batch.size()));
    return Error(Code::internal, fmt::format("decoding {} tokens failed ({}): {}", batch.size(), status,
                                             reason.empty() ? capture.text() : reason));
}

// Upstream asks after every operation. States of recurrent layers would be left
// half advanced (issue 26695 of llama.cpp), so these are never stopped.
void LibllamaBackend::heed(std::atomic<bool> const& stop) {
    if (!parts_.properties.can_interrupt) return;
    stop_ = &stop;
    llama_set_abort_callback(parts_.context.get(), is_stopped, this);
}

// On the thread that decodes, alone.
bool LibllamaBackend::is_stopped(void* self) {
    auto& backend = *static_cast<LibllamaBackend*>(self);
    auto const count = backend.operations_.load(std::memory_order_relaxed);
    backend.operations_.store(count + 1, std::memory_order_relaxed);
    return backend.stop_->load(std::memory_order_relaxed);
}

std::optional<double> LibllamaBackend::decoded_share() const {
    auto const whole = operations_whole_.load(std::memory_order_relaxed);
    if (whole == 0) return std::nullopt;
    return std::min(1.0, static_cast<double>(operations_.load(std::memory_order_relaxed)) / whole);
}

std::span<float const> LibllamaBackend::logits(std::size_t index) const {
    HEARTH_ASSERT(index < wants_logits_.size() && wants_logits_[index], "the entry asked for logits");
    float const* const row = llama_get_logits_ith(parts_.context.get(), static_cast<std::int32_t>(index));
    HEARTH_ASSERT(row != nullptr, "upstream has the logits it was asked for");
    return {row, parts_.properties.vocabulary};
}

Status LibllamaBackend::copy_sequence(SequenceId from, SequenceId to, Position end,
                                      std::span<std::byte const> checkpoint) {
    HEARTH_CHECK(check_generates());
    HEARTH_CHECK(check_sequence(from, "from"));
    HEARTH_CHECK(check_sequence(to, "to"));
    HEARTH_CHECK(check_state(from));
    auto const length = ledger_.length(index_of(from));
    if (from == to)
        return Error(Code::invalid_argument, fmt::format("sequence {} cannot be copied to itself", from), "to");
    if (ledger_.length(index_of(to)) != 0)
        return Error(Code::invalid_argument,
                     fmt::format("sequence {} is not empty: it has {} positions", to, ledger_.length(index_of(to))),
                     "to");
    if (end < 0 || index_of(end) > length)
        return Error(Code::invalid_argument, fmt::format("sequence {} has {} positions, not {}", from, length, end),
                     "end");
    if (end == 0) return ok();
    bool const part = index_of(end) != length;
    bool const from_checkpoint = parts_.kind == MemoryKind::recurrent && part && !checkpoint.empty();
    if (!from_checkpoint && !can_go_back(from, index_of(end)))
        return Error(Code::unsupported,
                     fmt::format("this model keeps no state of the first {} of {} positions", end, length), "end");
    llama_memory_seq_cp(cache(), from, to, -1, part ? end : -1);
    ledger_.share(index_of(from), index_of(to), index_of(end));
    guard(to);
    return from_checkpoint ? restore_checkpoint(to, checkpoint) : ok();
}

// The copy has the cells of its past but the recurrent state of its donor's end.
Status LibllamaBackend::restore_checkpoint(SequenceId sequence, std::span<std::byte const> blob) {
    auto const header = open_state(blob, parts_.fingerprint);
    auto const length = ledger_.length(index_of(sequence));
    Status status = header ? ok() : Status(header.error());
    if (header && header->positions != length)
        status =
            Error(Code::corrupt, fmt::format("the checkpoint is of {} positions, not {}", header->positions, length));
    if (status) status = read_state(sequence, blob, *header, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
    if (!status) forget(sequence);
    return status;
}

Result<std::vector<std::byte>> LibllamaBackend::checkpoint(SequenceId sequence) {
    HEARTH_CHECK(check_generates());
    HEARTH_CHECK(check_sequence(sequence, "sequence"));
    HEARTH_CHECK(check_state(sequence));
    StateHeader const header{.fingerprint = parts_.fingerprint, .positions = ledger_.length(index_of(sequence))};
    if (header.positions == 0) return Error(Code::invalid_argument, fmt::format("sequence {} is empty", sequence));
    return state_of(sequence, header, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
}

Status LibllamaBackend::remove(SequenceId sequence, Position begin) {
    HEARTH_CHECK(check_generates());
    HEARTH_CHECK(check_sequence(sequence, "sequence"));
    if (begin < 0) return Error(Code::invalid_argument, fmt::format("position {} is negative", begin), "begin");
    if (begin == 0) {
        forget(sequence);
        return ok();
    }
    auto const length = ledger_.length(index_of(sequence));
    if (index_of(begin) >= length) return ok();
    if (!can_go_back(sequence, index_of(begin)) || !llama_memory_seq_rm(cache(), sequence, begin, -1))
        return Error(Code::unsupported, fmt::format("this model cannot go back from position {} to {}", length, begin),
                     "begin");
    ledger_.truncate(index_of(sequence), index_of(begin));
    auto& guarded = guarded_[index_of(sequence)];
    if (guarded > index_of(begin)) {
        llama_memory_seq_rm(cache(), guard_of(sequence), begin, -1);
        guarded = index_of(begin);
    }
    return ok();
}

// --- state ---

// Of a sequence that has at least one position.
Result<std::vector<std::byte>> LibllamaBackend::state_of(SequenceId sequence, StateHeader const& header,
                                                         std::uint32_t flags) const {
    std::vector<std::byte> blob;
    try {
        std::size_t const size = llama_state_seq_get_size_ext(parts_.context.get(), sequence, flags);
        blob.resize(kStateHeaderBytes + size);
        auto* const payload = reinterpret_cast<std::uint8_t*>(blob.data() + kStateHeaderBytes);
        std::size_t const written = llama_state_seq_get_data_ext(parts_.context.get(), payload, size, sequence, flags);
        if (written == 0 || written > size)
            return Error(Code::internal,
                         fmt::format("saving sequence {} wrote {} of {} bytes", sequence, written, size));
        blob.resize(kStateHeaderBytes + written);
    } catch (std::exception const& e) {
        return Error(Code::internal, fmt::format("saving sequence {} failed: {}", sequence, e.what()));
    }
    seal_state(blob, header);
    return blob;
}

Result<std::vector<std::byte>> LibllamaBackend::save(SequenceId sequence) {
    HEARTH_CHECK(check_generates());
    HEARTH_CHECK(check_sequence(sequence, "sequence"));
    HEARTH_CHECK(check_state(sequence));
    StateHeader const header{.fingerprint = parts_.fingerprint, .positions = ledger_.length(index_of(sequence))};
    if (header.positions > 0) return state_of(sequence, header);
    std::vector<std::byte> blob(kStateHeaderBytes);
    seal_state(blob, header);
    return blob;
}

// Into a sequence without cells; on error it has none.
Status LibllamaBackend::read_state(SequenceId sequence, std::span<std::byte const> blob, StateHeader const& header,
                                   std::uint32_t flags) {
    bool const cells = (flags & LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY) == 0;
    if (cells && header.positions > ledger_.free())
        return Error(Code::overloaded, fmt::format("the saved sequence needs {} cells; {} of {} are free",
                                                   header.positions, ledger_.free(), ledger_.cells()));
    ErrorCapture const capture;
    std::size_t read = 0;
    auto const payload = blob.subspan(kStateHeaderBytes);
    try {
        read = llama_state_seq_set_data_ext(parts_.context.get(), reinterpret_cast<std::uint8_t const*>(payload.data()),
                                            payload.size(), sequence, flags);
    } catch (std::exception const&) {
        read = 0;
    }
    bool const whole = read == payload.size() &&
                       llama_memory_seq_pos_max(cache(), sequence) == static_cast<llama_pos>(header.end()) - 1;
    if (whole) return ok();
    llama_memory_seq_rm(cache(), sequence, -1, -1);
    return Error(Code::corrupt, fmt::format("the saved sequence could not be read back: {}", capture.text()));
}

Status LibllamaBackend::restore(SequenceId sequence, std::span<std::byte const> blob) {
    HEARTH_CHECK(check_generates());
    HEARTH_CHECK(check_sequence(sequence, "sequence"));
    if (auto const length = ledger_.length(index_of(sequence)); length != 0)
        return Error(Code::invalid_argument,
                     fmt::format("sequence {} is not empty: it has {} positions", sequence, length), "sequence");
    HEARTH_TRY(StateHeader const header, open_state(blob, parts_.fingerprint));
    if (header.begin != 0)
        return Error(Code::corrupt, fmt::format("the saved sequence lacks its first {} positions", header.begin));
    if (header.positions == 0) return ok();
    HEARTH_CHECK(read_state(sequence, blob, header));
    ledger_.append(index_of(sequence), header.positions);
    guard(sequence);
    return ok();
}

Result<std::vector<std::vector<float>>> LibllamaBackend::embed(std::span<std::vector<Token> const> inputs) {
    OnCpu const on_cpu(parts_.cpu);
    if (adapters_ != nullptr) embedder_.use(*adapters_);
    return embedder_.embed(inputs);
}

}  // namespace hearth::llama
