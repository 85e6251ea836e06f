#include "library/keep_jobs.h"

#include <gtest/gtest.h>

#include "library/pull_job.h"
#include "library/push_job.h"
#include "library/quantize_job.h"

namespace hearth::library {
namespace {

TEST(KeepWish, TravelsAsAPayload) {
    KeepWish const wish{"a \"name\"", true};
    auto const back = keep_wish_of(to_payload(wish));
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, wish);
    for (auto const* bad : {"", "[]", "{}", R"({"model":1,"urgent":false})", R"({"model":"a"})"})
        EXPECT_EQ(keep_wish_of(bad).error().code, Code::corrupt) << bad;
}

TEST(ModelOf, IsSaidByJobsOfEveryKind) {
    jobs::Job job;
    job.kind = kPullKind;
    job.payload = to_payload(PullWish{"pulled", "", false});
    EXPECT_EQ(model_of(job), "pulled");
    job.kind = kPushKind;
    job.payload = to_payload(PushWish{"pushed", false});
    EXPECT_EQ(model_of(job), "pushed");
    job.kind = kRestoreKind;
    job.payload = to_payload(KeepWish{"damaged", true});
    EXPECT_EQ(model_of(job), "damaged");
    job.payload = "of another version";
    EXPECT_EQ(model_of(job), "");
    job.kind = kQuantizeKind;
    job.payload = to_payload(QuantizeWish{"made", "/models/made.gguf"});
    EXPECT_EQ(model_of(job), "made");
    for (auto const kind : {kPullKind, kPushKind, kVerifyKind, kReadKind, kRestoreKind, kQuantizeKind})
        EXPECT_TRUE(is_job_kind(kind));
    EXPECT_FALSE(is_job_kind("other"));
}

TEST(IsRestorable, OnlyWhatWasPulledIntoAFolderOfOurs) {
    catalog::Model model;
    model.source = "hf.co/org/repo";
    model.files.push_back({});
    EXPECT_FALSE(is_restorable(model)) << "nobody says what its bytes should be";
    model.files[0].recorded = true;
    EXPECT_TRUE(is_restorable(model));
    model.layout = catalog::Layout::ollama;
    EXPECT_FALSE(is_restorable(model));
    model.layout = catalog::Layout::folder;
    model.source = "nowhere";
    EXPECT_FALSE(is_restorable(model));
}

}  // namespace
}  // namespace hearth::library
