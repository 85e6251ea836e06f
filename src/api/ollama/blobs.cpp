#include "api/ollama/blobs.h"

#include <charconv>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/library.h"
#include "api/ollama/errors.h"
#include "base/ascii.h"
#include "library/library.h"

namespace hearth::api::ollama {
namespace {

constexpr std::string_view kContentType = "application/octet-stream";

net::Task<void> refuse(Services& services, http::Exchange& exchange, Problem problem) {
    return send_problem(services, exchange, std::move(problem), error_response);
}

net::Task<void> answer(http::Exchange& exchange, unsigned status) {
    http::Response response;
    response.status = status;
    response.content_type.clear();
    co_await exchange.send(std::move(response));
}

// As clients look for it: the text is not made a sentence.
Problem blob_problem(Error const& error) {
    bool const theirs = error.code == Code::invalid_argument || error.code == Code::corrupt;
    return theirs ? make_problem(Kind::invalid_value, error.message, "digest") : library_problem(error);
}

// A page can have a browser send a file with no type or a harmless one, unasked, but not with this one.
std::optional<Problem> check_upload(http::Request const& request) {
    if (!request.header("content-encoding").empty())
        return make_problem(Kind::unsupported_media_type, "files are uploaded as they are, without a Content-Encoding");
    bool const from_a_page = !request.header("origin").empty();
    if (from_a_page && ascii_lower(request.header("content-type")) != kContentType)
        return make_problem(Kind::unsupported_media_type,
                            fmt::format("pages upload files with Content-Type: {}", kContentType));
    return std::nullopt;
}

std::optional<std::uint64_t> announced(http::Request const& request) {
    auto const text = request.header("content-length");
    std::uint64_t bytes = 0;
    auto const [end, failure] = std::from_chars(text.data(), text.data() + text.size(), bytes);
    bool const whole = failure == std::errc() && end == text.data() + text.size();
    return whole ? std::optional(bytes) : std::nullopt;
}

Result<library::Uploads*> uploads_of(Services& services) {
    HEARTH_TRY(auto* const library, need_library(services));
    return library->uploads();
}

// From the first byte to the file's name. A sender that fails is told by the server.
net::Task<void> receive(Services& services, http::Exchange& exchange,
                        std::unique_ptr<library::Uploads::Upload> upload) {
    for (;;) {
        auto piece = co_await exchange.read_body();
        if (!piece) co_return;
        if (piece->empty()) break;
        auto const written = co_await upload->append(*std::move(piece));
        if (!written) {
            co_await refuse(services, exchange, blob_problem(written.error()));
            co_return;
        }
    }
    auto const finished = co_await upload->finish();
    if (finished) co_await answer(exchange, 201);
    else co_await refuse(services, exchange, blob_problem(finished.error()));
}

}  // namespace

net::Task<void> find_blob(Services& services, http::Exchange& exchange) {
    auto const uploads = uploads_of(services);
    Result<bool> found = uploads ? Result<bool>(false) : Result<bool>(uploads.error());
    std::string digest(exchange.request().parameter("digest"));
    if (uploads) found = co_await (*uploads)->has(digest);
    if (!found) {
        co_await refuse(services, exchange, blob_problem(found.error()));
    } else if (*found) {
        co_await answer(exchange, 200);
    } else {
        auto problem = make_problem(Kind::not_found, fmt::format("blob \"{}\" not found", digest), "digest");
        co_await refuse(services, exchange, std::move(problem));
    }
}

net::Task<void> upload_blob(Services& services, http::Exchange& exchange) {
    auto problem = check_upload(exchange.request());
    auto const uploads = uploads_of(services);
    if (!problem && !uploads) problem = blob_problem(uploads.error());
    if (problem) {
        co_await refuse(services, exchange, *std::move(problem));
        co_return;
    }
    std::string digest(exchange.request().parameter("digest"));
    auto begun = co_await (*uploads)->begin(std::move(digest), announced(exchange.request()));
    if (!begun) co_await refuse(services, exchange, blob_problem(begun.error()));
    else if (!*begun) co_await answer(exchange, 200);
    else co_await receive(services, exchange, *std::move(begun));
}

}  // namespace hearth::api::ollama
