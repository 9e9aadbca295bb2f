//! How good generated images are: features of an extractor network, and FID, IS, KID, precision and
//! recall on them. It knows nothing of how the images were made.
