resource "aws_s3_bucket" "cronlock" {
  bucket = "example-cronlock"
}

resource "aws_s3_bucket_lifecycle_configuration" "cronlock" {
  bucket = aws_s3_bucket.cronlock.id

  rule {
    id     = "unused"
    status = "Enabled"
    filter { prefix = "cronlock/" }
    expiration { days = 400 }
  }

  rule {
    id     = "versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration { noncurrent_days = 1 }
  }
}
