// The half of Transfer that talks to the server: the first answer, pieces, streams.
#include <sys/stat.h>

#include <algorithm>

#include <fmt/format.h>

#include "fetch/answer_rules.h"
#include "fetch/blocking.h"
#include "fetch/transfer.h"

namespace hearth::fetch {
namespace {

// What came waits no longer for more of it: a kill costs what is not written.
constexpr Duration kChunkAge = std::chrono::milliseconds(100);

using Next = Outcome::Next;

Outcome judge_error(Error const& error) {
    bool const passing = error.code == Code::unavailable || error.code == Code::deadline_exceeded;
    return {passing ? Next::again : Next::fail, error, {}};
}

Outcome cancelled() { return {Next::fail, Error(Code::cancelled, "the download was cancelled"), {}}; }

Outcome afresh(std::string why) { return {Next::afresh, Error(Code::corrupt, std::move(why)), {}}; }

bool has_size(std::string const& path, std::uint64_t size) {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
           static_cast<std::uint64_t>(info.st_size) == size;
}

}  // namespace

net::Task<Result<std::unique_ptr<Response>>> Transfer::ask(ByteRange range) {
    Request request;
    request.url = direct_ ? direct_->url : request_.url;
    if (direct_) request.led_from = direct_->led_from;
    if (request.url.origin() == request_.url.origin()) request.authorization = request_.authorization;
    request.headers = request_.headers;
    request.headers.emplace_back("Range", fmt::format("bytes={}-{}", range.begin, range.end - 1));
    // Where the hash is known it decides, whatever tags several servers give the same bytes.
    if (request_.sha256.empty() && !state_.etag.empty() && !state_.done.pieces().empty())
        request.headers.emplace_back("If-Range", state_.etag);
    request.abort = abort_;
    co_return co_await client_.get(std::move(request));
}

Outcome Transfer::judge_status(Response const& answer) {
    auto const status = answer.status();
    if (status == 200 || status == 206 || status == 416) return {};
    auto const where = answer.url().text_without_query();
    auto const says = fmt::format("{} answers {}", where, status);
    if (is_passing_trouble(status)) {
        Outcome outcome{Next::again, Error(Code::unavailable, says), {}};
        outcome.after = parse_retry_after(answer.header("retry-after"));
        return outcome;
    }
    bool const signature_ended = direct_ && (status == 401 || status == 403 || status == 404 || status == 410);
    if (signature_ended) {
        direct_.reset();
        return {Next::again, Error(Code::unavailable, says), {}};
    }
    if (status == 404 || status == 410) return {Next::fail, Error(Code::not_found, says), {}};
    if (status == 401 || status == 403)
        return {Next::fail,
                Error(Code::unsupported,
                      says + (request_.authorization.empty() ? ": it wants a token" : ": it refuses the token"),
                      std::string(kRefused)),
                {}};
    return {Next::fail, Error(Code::io, says), {}};
}

// Does a 206 bring what was asked, of the file that was begun?
Outcome Transfer::judge_range(Response const& answer, ByteRange asked) {
    auto const where = answer.url().text_without_query();
    auto const got = parse_content_range(answer.header("content-range"));
    if (!got || !got->range || got->range->begin != asked.begin || got->range->end > asked.end)
        return {
            Next::again,
            Error(Code::unavailable, fmt::format("{} was asked for bytes {} to {} and sends '{}'", where, asked.begin,
                                                 asked.end - 1, answer.header("content-range").substr(0, 80))),
            {}};
    if (size_ && got->total != *size_)
        return afresh(fmt::format("{} has {} bytes, it had {}: it changed", where, got->total, *size_));
    if (answer.content_length().value_or(got->range->size()) != got->range->size())
        return {Next::again,
                Error(Code::unavailable, fmt::format("{} announces another length than its range", where)),
                {}};
    bool const tag_counts = request_.sha256.empty() && !state_.etag.empty();
    if (tag_counts && strong_etag(answer.header("etag")) != state_.etag)
        return afresh(fmt::format("{} changed while it was fetched", where));
    if (request_.sha256.empty() && !last_modified_.empty() && answer.header("last-modified") != last_modified_)
        return afresh(fmt::format("{} changed while it was fetched", where));
    return {};
}

net::Task<Outcome> Transfer::begin() {
    auto left = file_->load();
    begun_ = true;
    bool const wanted = left && left->size > 0 && left->size == request_.size.value_or(left->size) &&
                        (request_.sha256.empty() ? !left->etag.empty() : left->sha256 == request_.sha256);
    if (wanted) {
        state_ = std::move(*left);
        size_ = state_.size;
    } else {
        forget_answer();
        state_.sha256 = request_.sha256;
        size_ = request_.size;
        auto const cleared = file_->clear();
        if (!cleared) co_return Outcome{Next::fail, cleared.error(), {}};
    }
    taken_ = state_.done;
    first_piece_ = {};
    ranged_ = true;
    if (size_ && *size_ > 0 && !request_.sha256.empty() && state_.done.prefix() == *size_) co_return Outcome{};
    for (unsigned in_row = 0;;) {
        // Of a whole file whose hash is unknown, a byte asks whether it is still the same.
        auto const end = size_.value_or(options_.piece_bytes);
        auto const gap = taken_.first_gap(0, end, options_.piece_bytes);
        auto const asked = gap ? *gap : ByteRange{end > 0 ? end - 1 : 0, std::max<std::uint64_t>(end, 1)};
        report(Stage::connecting);
        auto answer = co_await ask(asked);
        auto outcome = answer ? co_await begin_with(std::move(*answer), asked) : judge_error(answer.error());
        if (outcome.next != Next::again) co_return outcome;
        auto last = co_await pause_after(outcome, in_row, false);
        if (last) co_return std::move(*last);
    }
}

net::Task<Outcome> Transfer::begin_with(std::unique_ptr<Response> answer, ByteRange asked) {
    auto judged = judge_status(*answer);
    if (judged.next != Next::done) co_return judged;
    bool const resumes = !state_.done.pieces().empty();
    auto const where = request_.url.text_without_query();
    auto const range = parse_content_range(answer->header("content-range"));
    if (answer->status() == 416 && (resumes || !range || range->total != 0))
        co_return afresh(fmt::format("{} has fewer bytes than it had", where));
    if (answer->status() == 200 && resumes) co_return afresh(fmt::format("{} changed since it was begun", where));
    if (answer->status() == 206) {
        judged = judge_range(*answer, asked);
        if (judged.next != Next::done) co_return judged;
    }
    auto linked = linked_sha256(answer->redirect_header("x-linked-etag"));
    if (linked.empty()) linked = linked_sha256(answer->header("x-linked-etag"));
    if (!linked.empty() && !state_.sha256.empty() && linked != state_.sha256)
        co_return request_.sha256.empty()
            ? afresh(fmt::format("{} changed since it was begun", where))
            : Outcome{Next::fail,
                      Error(Code::corrupt,
                            fmt::format("{} is said to have the SHA-256 {}, not {}", where, linked, state_.sha256)),
                      {}};
    if (state_.sha256.empty()) state_.sha256 = linked;
    state_.etag = strong_etag(answer->header("etag"));
    last_modified_ = answer->header("last-modified");
    auto const total = answer->status() == 200 ? answer->content_length() : std::optional(range->total);
    // Where a hash is known, what lies there was compared with it, and is not the same.
    bool const same = request_.sha256.empty() && !request_.present_etag.empty() && request_.present_etag == state_.etag;
    if (same && total && has_size(request_.path, *total)) {
        size_ = total;
        present_ = true;
        co_return Outcome{};
    }
    ranged_ = answer->status() != 200;
    if (total) {
        judged = co_await accept_size(*total);
        if (judged.next != Next::done) co_return judged;
    }
    if (answer->url() != request_.url) direct_ = Direct{answer->url(), answer->reached()};
    if (answer->status() == 416) co_return Outcome{};  // an empty file
    if (ranged_) first_piece_ = *range->range;
    taken_.add(first_piece_);
    first_ = std::move(answer);
    co_return Outcome{};
}

net::Task<Outcome> Transfer::accept_size(std::uint64_t size) {
    auto const where = request_.url.text_without_query();
    if (request_.size && *request_.size != size)
        co_return Outcome{
            Next::fail,
            Error(Code::corrupt, fmt::format("{} has {} bytes, it should have {}", where, size, *request_.size)),
            {}};
    if (size > options_.file_bytes_max)
        co_return Outcome{Next::fail,
                          Error(Code::too_large,
                                fmt::format("{} has {} bytes, the limit is {}", where, size, options_.file_bytes_max)),
                          {}};
    size_ = size;
    state_.size = size;
    auto reserve = [this, size] { return file_->reserve(size); };
    auto const reserved = co_await blocking(pool_, std::move(reserve));
    if (!reserved) co_return Outcome{Next::fail, reserved.error(), {}};
    co_return Outcome{};
}

net::Task<void> Transfer::worker(std::unique_ptr<Response> first, ByteRange piece) {
    unsigned in_row = 0;
    while (!ended_ && !cancelled_) {
        if (piece.size() == 0) {
            auto const gap = taken_.first_gap(0, *size_, options_.piece_bytes);
            if (!gap) break;
            piece = *gap;
            taken_.add(piece);
        }
        auto const before = piece.begin;
        auto outcome = co_await fetch_piece(std::move(first), piece);
        if (outcome.next == Next::again) {
            auto last = co_await pause_after(outcome, in_row, piece.begin > before);
            if (last) end_with(std::move(*last));
        } else if (outcome.next != Next::done) {
            end_with(std::move(outcome));
        } else {
            in_row = 0;
        }
    }
    if (cancelled_) end_with(cancelled());
}

net::Task<Outcome> Transfer::fetch_piece(std::unique_ptr<Response> answer, ByteRange& piece) {
    auto end = piece.end;
    if (!answer) {
        auto asked = co_await ask(piece);
        if (!asked) co_return judge_error(asked.error());
        answer = std::move(*asked);
        auto judged = judge_status(*answer);
        if (judged.next != Next::done) co_return judged;
        if (answer->status() != 206)
            co_return afresh(fmt::format("{} does not serve the bytes it began to", request_.url.text_without_query()));
        judged = judge_range(*answer, piece);
        if (judged.next != Next::done) co_return judged;
        end = parse_content_range(answer->header("content-range"))->range->end;
    }
    // A server may send less than it was asked for; the rest is asked for next.
    ByteRange part{piece.begin, end};
    auto stored = co_await store_body(*answer, part);
    piece.begin = part.begin;
    co_return stored;
}

net::Task<Outcome> Transfer::fetch_stream(std::unique_ptr<Response> answer) {
    ByteRange all{0, size_.value_or(options_.file_bytes_max)};
    auto stored = co_await store_body(*answer, all);
    if (stored.next == Next::done && request_.size && *size_ != *request_.size)
        co_return Outcome{
            Next::again,
            Error(Code::unavailable, fmt::format("{} sent {} bytes, it should have {}",
                                                 request_.url.text_without_query(), *size_, *request_.size)),
            {}};
    co_return stored;
}

net::Task<Outcome> Transfer::store_body(Response& answer, ByteRange& piece) {
    for (;;) {
        auto* const chunk = co_await landing_->take();
        if (chunk == nullptr) co_return cancelled();
        chunk->offset = piece.begin;
        auto ended = co_await fill(answer, piece, *chunk);
        landing_->put(chunk);
        if (ended) co_return *std::move(ended);
    }
}

net::Task<std::optional<Outcome>> Transfer::fill(Response& answer, ByteRange& piece, Chunk& chunk) {
    auto const began = clock_.now();
    while (!chunk.full()) {
        auto const read = co_await answer.read(chunk.room());
        if (!read) co_return judge_error(read.error());
        if (ended_ || cancelled_) co_return cancelled();
        if (*read == 0) co_return body_ended(answer, piece);
        if (*read > piece.size())
            co_return Outcome{Next::again,
                              Error(Code::unavailable, fmt::format("{} sends more bytes than it announced",
                                                                   answer.url().text_without_query())),
                              {}};
        chunk.size += *read;
        piece.begin += *read;
        fetched_ += *read;
        landing_bytes_ += *read;
        report(Stage::fetching);
        if (clock_.now() - began >= kChunkAge) break;
    }
    co_return std::nullopt;
}

Outcome Transfer::body_ended(Response const& answer, ByteRange& piece) {
    if (!size_) size_ = state_.size = piece.end = piece.begin;  // a stream of unknown length
    if (piece.size() == 0) return {};
    return {Next::again,
            Error(Code::unavailable,
                  fmt::format("{} ends {} bytes too early", answer.url().text_without_query(), piece.size())),
            {}};
}

}  // namespace hearth::fetch
