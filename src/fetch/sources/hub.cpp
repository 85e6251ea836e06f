// The Hugging Face hub: which files a repository has, and where they lie.
#include <algorithm>

#include <fmt/format.h>

#include "fetch/sources/hub_files.h"
#include "fetch/sources/plan.h"

namespace hearth::fetch {
namespace {

constexpr std::size_t kListingBytesMax = 16U << 20;

Error refusal(Response const& answer, std::string const& name, bool token) {
    auto const says = fmt::format("the hub answers {} for {}", answer.status(), name);
    if (answer.status() == 404) return {Code::not_found, says + ": no such repository or revision", "name"};
    if (answer.status() == 401 || answer.status() == 403)
        return {Code::unsupported,
                says + (token ? ": the token may not read it" : ": it does not exist or wants a token (HF_TOKEN)"),
                std::string(kRefused)};
    return {Code::unavailable, says};
}

Result<Plan> make_plan(HubReference const& reference, HubListing const& listing, HubOptions const& options,
                       std::vector<NotedFile> const& again) {
    HEARTH_TRY(auto files,
               again.empty() ? choose_gguf(listing.files, reference.choice) : choose_gguf_again(listing.files, again));
    bool const folder = files.empty();
    if (folder) files = choose_safetensors(listing.files);
    // Which file was chosen is in its name; what the model was pulled from stays the same for the next revision.
    auto const source = fmt::format("hf.co/{}/{}", reference.organisation, reference.repository);
    if (files.empty())
        return Error(Code::not_found, fmt::format("{} holds neither GGUF nor safetensors files", source), "name");
    if (folder && !reference.choice.empty())
        return Error(Code::not_found,
                     fmt::format("{} holds no GGUF files to choose '{}' from", source, reference.choice), "name");
    if (files.size() > kPlanFilesMax)
        return Error(Code::too_large,
                     fmt::format("{} has {} files, the limit is {}", source, files.size(), kPlanFilesMax));
    Plan plan;
    plan.source = source;
    plan.revision = listing.commit;
    plan.model = folder ? reference.repository : gguf_stem(files.front().path);
    plan.other_name = fmt::format("{}/{}", reference.organisation, plan.model);
    for (auto const& file : files) {
        PlannedFile planned;
        auto const name = file.path.substr(file.path.rfind('/') + 1);
        planned.name = folder ? reference.repository + "/" + file.path : name;
        HEARTH_TRY(planned.url,
                   parse_url(fmt::format("{}/{}/{}/resolve/{}/{}", options.endpoint, reference.organisation,
                                         reference.repository, listing.commit, encode_path(file.path))));
        if (!options.token.empty()) planned.authorization = "Bearer " + options.token;
        planned.sha256 = file.sha256;
        planned.size = file.size;
        plan.files.push_back(std::move(planned));
    }
    return plan;
}

}  // namespace

net::Task<Result<Plan>> plan_hub(Client& client, HubReference reference, HubOptions options,
                                 std::vector<NotedFile> again) {
    while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
    auto const url = parse_url(fmt::format("{}/api/models/{}/{}/revision/{}?blobs=true", options.endpoint,
                                           reference.organisation, reference.repository, reference.revision));
    if (!url) co_return url.error();
    Request request;
    request.url = *url;
    if (!options.token.empty()) request.authorization = "Bearer " + options.token;
    auto const answer = co_await client.get(std::move(request));
    if (!answer) co_return answer.error();
    if ((*answer)->status() != 200)
        co_return refusal(**answer, to_string(Reference(reference)), !options.token.empty());
    auto const text = co_await (*answer)->read_all(kListingBytesMax);
    if (!text) co_return text.error();
    auto const listing = parse_hub_listing(*text);
    if (!listing) co_return listing.error();
    co_return make_plan(reference, *listing, options, again);
}

}  // namespace hearth::fetch
