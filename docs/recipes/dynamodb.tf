resource "aws_dynamodb_table" "cronlock" {
  name                        = "cronlock"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "cronlock"
  deletion_protection_enabled = true

  attribute {
    name = "cronlock"
    type = "S"
  }
}
