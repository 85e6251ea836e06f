#include "sim/sim_backend.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "base/assert.h"

namespace hearth::sim {
namespace {

constexpr float kWinnerLogit = 20.0F;
constexpr float kOtherLogitsBelow = 4.0F;
constexpr std::uint64_t kStart = 0x5851F42D4C957F2DULL;
constexpr std::uint32_t kNoRow = std::numeric_limits<std::uint32_t>::max();

std::uint64_t next_state(std::uint64_t state, Token token) {
    std::uint64_t x = (state ^ static_cast<std::uint32_t>(token)) * 0x9E3779B97F4A7C15ULL;
    x = (x ^ (x >> 32U)) * 0xD6E8FEB86659FD93ULL;
    return x ^ (x >> 29U);
}

Duration of_ms(double ms) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(ms));
}

}  // namespace

SimBackend::SimBackend(SimModel const& model, ManualClock& clock)
    : model_(model),
      clock_(clock),
      random_(model.seed),
      sequences_(model.sequences_max + model.sequences_kept),
      owners_(model.kv_cells, 0),
      states_(model.kv_cells, 0),
      free_(model.kv_cells),
      stateless_(sequences_.size(), false),
      lengths_(sequences_.size(), 0) {
    HEARTH_ASSERT(model.sequences_max > 0 && model.batch_max > 0 && model.kv_cells > 1 && model.vocabulary > 2 &&
                      model.context_request > 1,
                  "a simulated model has room");
    std::iota(free_.rbegin(), free_.rend(), 0U);
    traffic::Random spread(model.vocabulary);
    for (std::uint32_t i = 0; i < model.vocabulary; ++i)
        spread_.push_back(static_cast<float>(spread.unit()) * kOtherLogitsBelow);
    auto& info = properties_.info;
    info.architecture = "simulated";
    info.name = "simulated";
    info.vocabulary = model.vocabulary;
    info.context_train = info.context_request = model.context_request;
    info.kv_cells = model.kv_cells;
    info.sequences_max = model.sequences_max;
    info.threads = 1;
    info.determinism = model.determinism;
    info.parameters = model.parameters;
    properties_.batch_max = model.batch_max;
    properties_.sequences_max = model.sequences_max + model.sequences_kept;
    properties_.kv_cells = model.kv_cells;
    properties_.vocabulary = model.vocabulary;
    properties_.can_share_cells = properties_.can_truncate = !model.recurrent;
    properties_.can_interrupt = !model.recurrent;
    properties_.saves_parts = true;
    properties_.mixing_saves_nothing = model.recurrent;
    properties_.needs_checkpoints = model.recurrent;
}

std::uint32_t SimBackend::sequences_used() const {
    return static_cast<std::uint32_t>(
        std::count_if(sequences_.begin(), sequences_.end(), [](auto const& cells) { return !cells.empty(); }));
}

std::vector<Token> SimBackend::answer(std::span<Token const> prompt, std::uint32_t tokens_max) const {
    std::uint64_t state = kStart;
    for (Token const token : prompt) state = next_state(state, token);
    std::vector<Token> said;
    while (said.size() < tokens_max) {
        said.push_back(winner(state));
        if (said.back() == end_token()) break;
        state = next_state(state, said.back());
    }
    return said;
}

Token SimBackend::winner(std::uint64_t state) const {
    if (model_.errs_one_in != 0 && (state >> 16U) % model_.errs_one_in == 0) state = ~state;
    if (model_.end_one_in != 0 && (state >> 32U) % model_.end_one_in == 0) return end_token();
    return static_cast<Token>((state & 0xFFFFFFFFU) % (model_.vocabulary - 1));
}

std::uint64_t SimBackend::state_of(Cells const& cells) const { return cells.empty() ? kStart : states_[cells.back()]; }

Result<std::vector<Token>> SimBackend::tokenize(std::string_view, llama::TokenizeOptions) const {
    return Error(Code::unsupported, "a simulated model has no tokenizer; prompts are tokens");
}

// Some are halves of a character, as with real vocabularies.
Result<std::vector<Token>> SimBackend::tokenize_infill(std::string_view, std::string_view) const {
    return Error(Code::unsupported, "a simulated model fills nothing in");
}

void SimBackend::append_piece(Token token, std::string& out) const {
    constexpr std::string_view kDigits = "0123456789abcdefghijklmnopqrstuvwxyz";
    if (token < 0 || token >= end_token()) return;
    auto const id = static_cast<std::size_t>(token);
    if (id % 32 == 30) {
        out += "\xE2\x82";
    } else if (id % 32 == 31) {
        out += "\xAC";
    } else {
        out += kDigits[id % 36];
        out += kDigits[id / 36 % 36];
    }
}

Result<llama::RenderedChat> SimBackend::render_chat(domain::ChatPrompt const&) const {
    return Error(Code::unsupported, "a simulated model has no chat template; prompts are tokens", "messages");
}

Status SimBackend::check_sequence(SequenceId sequence) const {
    if (sequence >= 0 && static_cast<std::size_t>(sequence) < sequences_.size()) return ok();
    return Error(Code::invalid_argument,
                 fmt::format("sequence {} does not exist, there are {}", sequence, sequences_.size()));
}

Status SimBackend::check_empty(SequenceId sequence) const {
    HEARTH_CHECK(check_sequence(sequence));
    if (sequences_[static_cast<std::size_t>(sequence)].empty()) return ok();
    return Error(Code::invalid_argument, fmt::format("sequence {} is not empty", sequence));
}

Status SimBackend::check_batch(std::span<llama::BatchEntry const> batch) {
    if (batch.empty() || batch.size() > model_.batch_max) {
        return Error(Code::invalid_argument,
                     fmt::format("a batch of {} entries, the limits are 1 and {}", batch.size(), model_.batch_max));
    }
    for (auto const& entry : batch) {
        HEARTH_CHECK(check_sequence(entry.sequence));
        if (stateless_[static_cast<std::size_t>(entry.sequence)])
            return Error(Code::invalid_argument, fmt::format("sequence {} has no state", entry.sequence));
        if (entry.token < 0 || entry.token > end_token())
            return Error(Code::invalid_argument, fmt::format("token {} is outside the vocabulary", entry.token));
    }
    for (auto const& entry : batch) {
        lengths_[static_cast<std::size_t>(entry.sequence)] = static_cast<std::uint32_t>(cells(entry.sequence).size());
    }
    for (auto const& entry : batch) {
        auto& length = lengths_[static_cast<std::size_t>(entry.sequence)];
        if (entry.position != static_cast<Position>(length)) {
            return Error(Code::invalid_argument, fmt::format("sequence {} goes on at position {}, got {}",
                                                             entry.sequence, length, entry.position));
        }
        if (++length > model_.context_request) {
            return Error(Code::invalid_argument,
                         fmt::format("sequence {} grows beyond {} tokens", entry.sequence, model_.context_request));
        }
    }
    return ok();
}

Status SimBackend::maybe_fail(std::uint32_t one_in) {
    if (one_in == 0 || random_.below(one_in) != 0) return ok();
    return Error(random_.below(3) == 0 ? Code::overloaded : Code::internal, "injected");
}

std::uint32_t SimBackend::take_cell() {
    std::uint32_t const cell = free_.back();
    free_.pop_back();
    owners_[cell] = 1;
    return cell;
}

// A row keeps its buffer, and only the winner's place in it changes.
void SimBackend::write_row(std::size_t row, Token winner) {
    if (row == rows_.size()) rows_.push_back({spread_, 0});
    auto& [logits, last] = rows_[row];
    logits[static_cast<std::size_t>(last)] = spread_[static_cast<std::size_t>(last)];
    logits[static_cast<std::size_t>(winner)] = kWinnerLogit;
    last = winner;
}

void SimBackend::spend(double ms) {
    work_.busy_ms += ms;
    clock_.advance(of_ms(ms));
}

// Recurrent layers take sequences that go on by as many tokens each in one pass over the weights.
std::size_t SimBackend::passes(std::span<llama::BatchEntry const> batch) {
    if (!model_.recurrent) return 1;
    for (auto const& entry : batch) lengths_[static_cast<std::size_t>(entry.sequence)] = 0;
    for (auto const& entry : batch) ++lengths_[static_cast<std::size_t>(entry.sequence)];
    std::set<std::uint32_t> lengths;
    for (auto const& entry : batch) lengths.insert(lengths_[static_cast<std::size_t>(entry.sequence)]);
    return lengths.size();
}

Status SimBackend::decode(std::span<llama::BatchEntry const> batch) {
    auto const wanted = std::count_if(batch.begin(), batch.end(), [](auto const& entry) { return entry.wants_logits; });
    last_batch_ = {batch.size(), static_cast<std::size_t>(wanted)};
    HEARTH_CHECK(check_batch(batch));
    if (batch.size() > free_.size()) {
        return Error(Code::overloaded, fmt::format("the batch needs {} cells, {} of {} are free", batch.size(),
                                                   free_.size(), owners_.size()));
    }
    HEARTH_CHECK(maybe_fail(model_.faults.decode_one_in));
    row_of_entry_.assign(batch.size(), kNoRow);
    if (!compute_for(step_ms(batch))) return Error(Code::cancelled, "the step was stopped");
    std::size_t rows = 0;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        auto const& entry = batch[i];
        auto& sequence = cells(entry.sequence);
        std::uint64_t const state = next_state(state_of(sequence), entry.token);
        std::uint32_t const cell = take_cell();
        states_[cell] = state;
        sequence.push_back(cell);
        if (!entry.wants_logits) continue;
        row_of_entry_[i] = static_cast<std::uint32_t>(rows);
        write_row(rows++, winner(state));
    }
    ++work_.decodes;
    work_.rows += rows;
    work_.prompt_tokens += batch.size() - rows;
    return ok();
}

double SimBackend::step_ms(std::span<llama::BatchEntry const> batch) {
    std::size_t rows = 0;
    std::uint64_t attended = 0;
    for (auto const& entry : batch) {
        rows += entry.wants_logits ? 1 : 0;
        attended += static_cast<std::uint64_t>(entry.position) + 1;
    }
    auto const& costs = model_.costs;
    double const ms = costs.step_ms * static_cast<double>(passes(batch)) + costs.row_ms * static_cast<double>(rows) +
                      costs.prompt_token_ms * static_cast<double>(batch.size() - rows) +
                      costs.attended_us / 1000 * static_cast<double>(attended);
    return costs.noise > 0 ? ms * (1 + costs.noise * (2 * random_.unit() - 1)) : ms;
}

// False if it was stopped before its end.
bool SimBackend::compute_for(double ms) {
    Instant const begin = clock_.now();
    Instant const end = begin + of_ms(ms);
    if (meanwhile) meanwhile(end);
    bool const stopped = stop_ != nullptr && stop_->load(std::memory_order_relaxed);
    if (!stopped && end > clock_.now()) clock_.advance(end - clock_.now());
    work_.busy_ms += stopped ? to_ms(clock_.now() - begin) : ms;
    return !stopped;
}

std::span<float const> SimBackend::logits(std::size_t index) const {
    HEARTH_ASSERT(index < row_of_entry_.size() && row_of_entry_[index] != kNoRow, "the entry wanted logits");
    return rows_[row_of_entry_[index]].logits;
}

Result<std::vector<std::byte>> SimBackend::checkpoint(SequenceId sequence) {
    HEARTH_CHECK(check_sequence(sequence));
    std::uint64_t const state = state_of(cells(sequence));
    auto const bytes = std::as_bytes(std::span(&state, 1));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
}

Status SimBackend::copy_sequence(SequenceId from, SequenceId to, Position end, std::span<std::byte const> checkpoint) {
    HEARTH_CHECK(check_sequence(from));
    HEARTH_CHECK(check_empty(to));
    auto const& source = cells(from);
    if (end < 0 || static_cast<std::size_t>(end) > source.size()) {
        return Error(Code::invalid_argument,
                     fmt::format("sequence {} has {} positions, cannot copy {}", from, source.size(), end));
    }
    if (model_.recurrent && end > 0 && static_cast<std::size_t>(end) != source.size()) {
        if (checkpoint.empty())
            return Error(Code::unsupported, fmt::format("a part of sequence {} needs a checkpoint", from));
        std::uint64_t const state = states_[source[static_cast<std::size_t>(end) - 1]];
        if (!std::ranges::equal(std::as_bytes(std::span(&state, 1)), checkpoint))
            return Error(Code::corrupt, fmt::format("the checkpoint is not of these {} positions", end));
    }
    HEARTH_CHECK(maybe_fail(model_.faults.copy_one_in));
    auto& target = cells(to);
    target.assign(source.begin(), source.begin() + end);
    for (std::uint32_t const cell : target) ++owners_[cell];
    spend(model_.costs.copy_us_per_cell / 1000 * end);
    return ok();
}

Status SimBackend::remove(SequenceId sequence, Position begin) {
    HEARTH_CHECK(check_sequence(sequence));
    if (begin < 0) return Error(Code::invalid_argument, fmt::format("cannot remove from position {}", begin));
    auto& cells = this->cells(sequence);
    if (model_.recurrent && begin > 0 && static_cast<std::size_t>(begin) < cells.size())
        return Error(Code::unsupported, fmt::format("sequence {} cannot be cut", sequence));
    if (begin == 0) stateless_[static_cast<std::size_t>(sequence)] = false;
    while (cells.size() > static_cast<std::size_t>(begin)) {
        if (--owners_[cells.back()] == 0) free_.push_back(cells.back());
        cells.pop_back();
    }
    return ok();
}

Result<std::vector<std::byte>> SimBackend::save(SequenceId sequence) {
    HEARTH_CHECK(check_sequence(sequence));
    HEARTH_CHECK(maybe_fail(model_.faults.save_one_in));
    auto const& cells = this->cells(sequence);
    std::vector<std::byte> blob(cells.size() * sizeof(std::uint64_t));
    for (std::size_t i = 0; i < cells.size(); ++i)
        std::memcpy(blob.data() + i * sizeof(std::uint64_t), &states_[cells[i]], sizeof(std::uint64_t));
    spend(model_.costs.save_us_per_cell / 1000 * static_cast<double>(cells.size()));
    return blob;
}

// The position it begins at, then a state per position.
Result<std::vector<std::byte>> SimBackend::save_part(SequenceId sequence, Position begin, Position end) {
    HEARTH_CHECK(check_sequence(sequence));
    HEARTH_CHECK(maybe_fail(model_.faults.save_one_in));
    auto const& cells = this->cells(sequence);
    if (begin < 0 || begin >= end || static_cast<std::size_t>(end) > cells.size()) {
        return Error(Code::invalid_argument,
                     fmt::format("positions {} to {} are not in a sequence of {}", begin, end, cells.size()));
    }
    std::vector<std::uint64_t> states{static_cast<std::uint64_t>(begin)};
    for (Position at = begin; at < end; ++at) states.push_back(states_[cells[static_cast<std::size_t>(at)]]);
    auto const bytes = std::as_bytes(std::span(states));
    spend(model_.costs.save_us_per_cell / 1000 * (end - begin));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
}

Status SimBackend::append_part(SequenceId sequence, std::span<std::byte const> blob, Position end) {
    HEARTH_CHECK(check_sequence(sequence));
    auto& cells = this->cells(sequence);
    std::vector<std::uint64_t> states(blob.size() / sizeof(std::uint64_t));
    std::memcpy(states.data(), blob.data(), states.size() * sizeof(std::uint64_t));
    std::uint64_t const begin = states.empty() ? 0 : states[0];
    bool const fits = blob.size() % sizeof(std::uint64_t) == 0 && states.size() > 1 && begin <= cells.size() &&
                      static_cast<std::uint64_t>(end) <= begin + states.size() - 1 &&
                      static_cast<std::size_t>(end) > cells.size();
    if (!fits) return Error(Code::corrupt, fmt::format("{} bytes are no part of such a sequence", blob.size()));
    if (states.size() - 1 > free_.size())
        return Error(Code::overloaded,
                     fmt::format("the part needs {} cells, {} are free", states.size() - 1, free_.size()));
    HEARTH_CHECK(maybe_fail(model_.faults.restore_one_in));
    auto const before = cells.size();
    for (std::size_t at = before; at < static_cast<std::size_t>(end); ++at) {
        cells.push_back(take_cell());
        states_[cells.back()] = states[1 + at - begin];
    }
    stateless_[static_cast<std::size_t>(sequence)] = model_.recurrent;
    spend(model_.costs.restore_us_per_cell / 1000 * static_cast<double>(cells.size() - before));
    return ok();
}

Status SimBackend::resume(SequenceId sequence, std::span<std::byte const> checkpoint) {
    HEARTH_CHECK(check_sequence(sequence));
    stateless_[static_cast<std::size_t>(sequence)] = false;
    std::uint64_t const state = state_of(cells(sequence));
    if (std::ranges::equal(std::as_bytes(std::span(&state, 1)), checkpoint)) return ok();
    HEARTH_CHECK(remove(sequence, 0));
    return Error(Code::corrupt, fmt::format("the checkpoint is not of sequence {}", sequence));
}

Status SimBackend::restore(SequenceId sequence, std::span<std::byte const> blob) {
    HEARTH_CHECK(check_empty(sequence));
    std::size_t const count = blob.size() / sizeof(std::uint64_t);
    if (blob.size() % sizeof(std::uint64_t) != 0 || count > model_.context_request)
        return Error(Code::corrupt, fmt::format("{} bytes are no state of this model's sequences", blob.size()));
    if (count > free_.size()) {
        return Error(Code::overloaded, fmt::format("the sequence needs {} cells, {} of {} are free", count,
                                                   free_.size(), owners_.size()));
    }
    HEARTH_CHECK(maybe_fail(model_.faults.restore_one_in));
    auto& cells = this->cells(sequence);
    for (std::size_t i = 0; i < count; ++i) {
        cells.push_back(take_cell());
        std::memcpy(&states_[cells.back()], blob.data() + i * sizeof(std::uint64_t), sizeof(std::uint64_t));
    }
    spend(model_.costs.restore_us_per_cell / 1000 * static_cast<double>(count));
    return ok();
}

Result<std::vector<std::vector<float>>> SimBackend::embed(std::span<std::vector<Token> const>) {
    return Error(Code::unsupported, "a simulated model embeds nothing");
}

llama::MemoryEstimate SimBackend::memory() const {
    return {.weights = 0, .kv = states_.size() * sizeof(states_[0]), .scratch = 0};
}

}  // namespace hearth::sim
